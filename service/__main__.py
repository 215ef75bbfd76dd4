"""The service's commands: `python -m service serve`."""

import argparse
import os
import socket
import sys
import tempfile
from pathlib import Path

from service.session import DeviceFault, choose_providers
from service.settings import AUTO, BUNDLED_DEFAULT, Settings, SettingsFault, read_settings

SERVICE = "service.app:Sightglass"


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve", help="answer HTTP requests until told to stop")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serving.add_argument("--port", type=int, default=3000, help="port to listen on")
    serving.set_defaults(run=lambda options: serve(options.host, options.port))
    options = parser.parse_args()
    try:
        options.run(options)
    except (SettingsFault, DeviceFault) as fault:
        sys.exit(str(fault))


def serve(host: str, port: int) -> None:
    """Check what can be checked before the start, then become BentoML's server."""
    check_port(host, port)
    environment = dict(os.environ)
    if not {"SIGHTGLASS_DEFAULT_MODEL", "SIGHTGLASS_MODELS_DIR"} & set(environment):
        environment["SIGHTGLASS_DEFAULT_MODEL"] = BUNDLED_DEFAULT
    settings = read_settings()
    choose_providers(settings.device)
    environment["SIGHTGLASS_URL"] = f"http://{host}:{port}"
    environment["BENTOML_API_WORKERS"] = str(choose_workers(settings))
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    # Workers of one port sum their metrics there; another server's must stay out of the sum.
    home = Path(tempfile.gettempdir()) / f"sightglass-{os.getuid()}-{port}"
    home.mkdir(mode=0o700, exist_ok=True)
    environment.setdefault("BENTOML_HOME", str(home))
    sys.stdout.flush()
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
    command += ["--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)  # noqa: S606  # a shell would not pass signals on


def check_port(host: str, port: int) -> None:
    """Exit with a sentence if nobody can listen there."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as fault:
        sys.exit(
            f"Can't listen on {host}:{port} ({fault.strerror}): "
            f"choose another port, as in: make serve PORT={port + 1}"
        )


def choose_workers(settings: Settings) -> int:
    """Processes to start."""
    return 1 if settings.workers == AUTO else int(settings.workers)


if __name__ == "__main__":
    main()
