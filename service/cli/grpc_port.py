"""Checks before the start whether the service can listen for gRPC, if it is asked to."""

import importlib.util
import socket

from service.settings import Settings, SettingsError

PACKAGE = "h2"  # of the extra `grpc`


def check_grpc_port(settings: Settings, address: str, port: int) -> None:
    """Check the port for gRPC beside the `port` for HTTP, both on a numeric address.

    Raises:
        SettingsError: The service can't listen there, or a package is missing.
    """
    wanted = settings.grpc_port
    if not wanted:
        return
    if not importlib.util.find_spec(PACKAGE):
        raise SettingsError(
            "SIGHTGLASS_GRPC_PORT needs the extra 'grpc'. Install it, for example: "
            "pip install 'sightglass[grpc]'"
        )
    reason = "it is the port of HTTP" if wanted == port else find_obstacle(address, wanted)
    if reason:
        raise SettingsError(
            f"The service can't listen for gRPC on {address}:{wanted} ({reason}). Set "
            "SIGHTGLASS_GRPC_PORT to another port."
        )


def find_obstacle(address: str, port: int) -> str | None:
    """Return why no process can listen on a port now; None if one can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as exc:
            return exc.strerror or str(exc)
    return None
