"""Starts BentoML's server and stops it as the signal asks: SIGTERM drains, Ctrl-C ends at once.

BentoML's parent process answers every signal with SIGTERM to its workers, which then drain. So this
process runs above it. It forwards SIGTERM, and it sends Ctrl-C to the workers themselves. Whatever
ends the parent process, this process ends what is left of it.
"""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import psutil

from service.cli.grpc_port import check_grpc_port
from service.cli.ready import ReadyMessage, announce_ready, make_url
from service.cli.workers import choose_workers
from service.machine import adopt_orphans, end_with_parent
from service.server.otel.exporters import make_exporters
from service.settings import (
    BUNDLED_DEFAULT,
    BUNDLED_MODELS,
    LISTEN_VARIABLE,
    ConfigurationError,
    Settings,
    apply_bundled_default,
    read_settings,
)
from service.supervisor import LAUNCHER_FOLDER_VARIABLE

PACKAGE = __name__.removesuffix(".cli.serve")  # "service", or as the wheel calls it
SERVICE = f"{PACKAGE}.app:Sightglass"
KEEP_ALIVE_SECONDS = 75  # longer than proxies keep idle connections, so that the proxy closes first
MAX_PORT = 65535
ORPHAN_SECONDS = 10.0  # at most, until the processes that were killed have ended
STOPPING = [  # a closed terminal (SIGHUP) and Ctrl-\ (SIGQUIT) drain as SIGTERM does
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
]


class LaunchError(ConfigurationError):
    """The service can't start; the message is one sentence."""


def serve(host: str, port: int) -> int:
    """Check what can be checked before the start, run BentoML's server, return its exit code.

    Raises:
        LaunchError: the address can't be used, or there is no room for temporary files.
        SettingsError: a setting has a value that is not allowed.
        DeviceError: the device that the settings demand does not work.
    """
    address = check_address(host, port)
    settings = apply_bundled_default(read_settings())
    check_grpc_port(settings, address, port)
    make_exporters()  # the workers make their own; here a wrong setting is still one sentence
    if settings.device == "cuda":
        from service.runtime.device import require_cuda  # onnxruntime loads slowly

        require_cuda()
    if settings.device == "openvino":
        from service.runtime.openvino import require_openvino

        require_openvino()
    workers = choose_workers(settings)
    exit_at_signals()
    adopt_orphans()
    with make_folder() as folder:
        environment = make_environment(settings, workers, folder) | {LISTEN_VARIABLE: address}
        is_bundled = settings.default_model == BUNDLED_DEFAULT
        ready = ReadyMessage(make_url(host, port), workers, is_bundled)
        exit_code = run_server(address, port, environment, ready)
    return describe_end(exit_code)


def parse_port(text: str) -> int:
    """Return the port that the command line names.

    Raises:
        LaunchError: it is not a port to listen on.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT):
        raise LaunchError(
            f'The port must be an integer from 1 to {MAX_PORT}, got "{text}". '
            f"Choose another one, for example: {advise('port', 3001)}"
        )
    return int(text)


def check_address(host: str, port: int) -> str:
    """Check that the service can listen there. Return the host as a numeric address.

    Raises:
        LaunchError: it can't.
    """
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as exc:
        if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
            advice = f"Name an address of this machine, for example: {advise('host', '127.0.0.1')}"
        else:
            free = port + 1 if 1024 <= port < MAX_PORT else 3000  # lower ones need root
            advice = f"Choose another port, for example: {advise('port', free)}"
        raise LaunchError(
            f"The service can't listen on {host}:{port} ({exc.strerror}). {advice}"
        ) from None
    return str(address[0])


def advise(option: str = "", value: object = "") -> str:
    """The command that serves with an option, as the person at the terminal types it."""
    if PACKAGE == "service":
        return f"make serve {option.upper()}={value}" if option else "make serve"
    return f"sightglass serve --{option} {value}" if option else "sightglass serve"


@contextlib.contextmanager
def make_folder() -> Iterator[str]:
    """Make the folder of all temporary files of this server, and remove it at the end.

    The workers of one server sum their metrics there; another server needs its own.

    Raises:
        LaunchError: it can't be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="sightglass-", ignore_cleanup_errors=True)
    except OSError as exc:
        raise LaunchError(
            f"The service can't write its temporary files ({exc.strerror or exc}). Make room, or "
            f"name another folder, for example: TMPDIR=/var/tmp {advise()}"
        ) from None
    with folder as name:
        yield name


def make_environment(settings: Settings, workers: int, folder: str) -> dict[str, str]:
    """The environment variables of BentoML's server."""
    environment = os.environ | {
        "BENTOML_CONFIG_OPTIONS": f"services.sightglass.workers={workers}",
        "TMPDIR": folder,
        LAUNCHER_FOLDER_VARIABLE: folder,
    }
    environment.setdefault("BENTOML_HOME", folder)
    if settings.default_model == BUNDLED_DEFAULT:
        environment["SIGHTGLASS_DEFAULT_MODEL"] = BUNDLED_DEFAULT
    if settings.models_dir == BUNDLED_MODELS:
        environment["SIGHTGLASS_MODELS_DIR"] = str(BUNDLED_MODELS)
    return environment


def run_server(address: str, port: int, environment: dict[str, str], ready: ReadyMessage) -> int:
    """Run BentoML's server until it ends; return its exit code. Nothing of it is left then."""
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
    command += ["--host", address, "--port", str(port)]
    command += ["--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
    options: dict[str, Any] = {}
    if os.name == "posix":
        options["start_new_session"] = True  # so that Ctrl-C at the terminal reaches only us
        # SIGTERM makes it drain.
        options["preexec_fn"] = partial(end_with_parent, signal.SIGTERM, os.getpid())
    process = subprocess.Popen(command, env=environment, **options)  # noqa: S603
    forward_signals(process)
    threading.Thread(target=announce_ready, args=(process, ready), daemon=True).start()
    exit_code = wait_for(process)
    end_orphans()
    return exit_code


def exit_at_signals() -> None:
    """Until there is a server, let a signal end this process, with its temporary files removed."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    handle_stopping(end)


def forward_signals(process: subprocess.Popen[bytes]) -> None:
    """Let SIGTERM drain the workers and SIGINT stop them at once."""

    def terminate(_: int, __: FrameType | None) -> None:
        process.terminate()

    def interrupt(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(process.pid).children(recursive=True):
                worker.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)

    handle_stopping(terminate)
    signal.signal(signal.SIGINT, interrupt)


def handle_stopping(handler: Any) -> None:
    """Call `handler` at each signal that asks the service to stop.

    A signal that is ignored stays ignored: that is how `nohup` keeps a service running.
    """
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait until the process ends; return its exit code. Reap adopted orphans meanwhile."""
    if sys.platform != "linux":
        return process.wait()
    while (exit_code := process.poll()) is None:
        with contextlib.suppress(ChildProcessError):  # the thread that polls was faster
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            if ended and ended.si_pid != process.pid:
                os.waitpid(ended.si_pid, 0)
    return exit_code


def end_orphans() -> None:
    """End the processes that the server left, for example because it was killed."""
    orphans = psutil.Process().children(recursive=True)
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(orphans, ORPHAN_SECONDS)


def describe_end(exit_code: int) -> int:
    """Return the exit code as a shell gives it, and say so if the server was killed."""
    if exit_code >= 0:
        return exit_code
    number = signal.Signals(-exit_code)
    if number not in (signal.SIGINT, signal.SIGTERM):  # those stop it while it still starts
        print(  # noqa: T201
            f"The service stopped because {number.name} ended BentoML's parent process. "
            "All its workers are stopped. Start it again.",
            file=sys.stderr,
        )
    return 128 + number
