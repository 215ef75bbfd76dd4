"""Starts BentoML's server and stops it as the signal asks: SIGTERM drains, Ctrl-C ends at once.

BentoML's parent process answers every signal with SIGTERM to its workers, which then drain. So this
process runs above it. It forwards SIGTERM, and it sends Ctrl-C to the workers themselves.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from types import FrameType
from typing import NamedTuple

import psutil

from service.cli.workers import choose_workers
from service.machine import end_with_parent
from service.server.tracing import make_exporters
from service.settings import (
    BUNDLED_DEFAULT,
    ConfigurationError,
    Settings,
    apply_bundled_default,
    read_settings,
)

SERVICE = "service.app:Sightglass"
BUNDLED_EXAMPLE = "docs/examples/dog_and_cat.jpg"
KEEP_ALIVE_SECONDS = 75  # longer than proxies keep idle connections, so that the proxy closes first
START_ATTEMPTS = 3
POLL_SECONDS = (0.1, 0.5)  # the first pause and the longest one


class LaunchError(ConfigurationError):
    """The service can't start; the message is one sentence."""


def serve(host: str, port: int) -> int:
    """Check what can be checked before the start, run BentoML's server, return its exit code.

    Raises:
        LaunchError: the port can't be used.
        SettingsError: a setting has a value that is not allowed.
        DeviceError: the device that the settings demand does not work.
    """
    check_port(host, port)
    settings = apply_bundled_default(read_settings())
    make_exporters()  # the workers make their own; here a wrong setting is still one sentence
    if settings.device == "cuda":
        from service.runtime.device import require_cuda  # onnxruntime loads slowly

        require_cuda()
    workers = choose_workers(settings)
    # The workers of one server sum their metrics in this folder; another server needs its own.
    with tempfile.TemporaryDirectory(prefix="sightglass-") as bentoml_home:
        environment = make_environment(settings, workers, bentoml_home)
        is_bundled = settings.default_model == BUNDLED_DEFAULT
        ready = ReadyMessage(
            f"http://{host}:{port}", workers, BUNDLED_EXAMPLE if is_bundled else "picture.jpg"
        )
        for _ in range(START_ATTEMPTS):
            exit_code = run_server(host, port, environment, ready)
            # BentoML's parent process exits with 1 if another process takes a port that it found
            # free for itself.
            if exit_code != 1:
                break
        return exit_code


def make_environment(settings: Settings, workers: int, bentoml_home: str) -> dict[str, str]:
    """The environment variables of BentoML's server."""
    environment = os.environ | {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_CONFIG_OPTIONS": f"services.sightglass.workers={workers}",
    }
    environment.setdefault("BENTOML_HOME", bentoml_home)
    if settings.default_model == BUNDLED_DEFAULT:
        environment["SIGHTGLASS_DEFAULT_MODEL"] = BUNDLED_DEFAULT
    return environment


class ReadyMessage(NamedTuple):
    """What the person at the terminal reads once the service is ready."""

    url: str
    workers: int
    example: str

    def __str__(self) -> str:
        processes = f" with {self.workers} worker processes" if self.workers > 1 else ""
        return (
            f"Sightglass is ready on {self.url}{processes}. Press Ctrl-C to stop it.\n"
            "Try it in another terminal:\n"
            f"  curl -F image=@{self.example} {self.url}/predict\n"
            f"  curl -F image=@{self.example} {self.url}/gradcam -o heatmap.png"
        )


def run_server(host: str, port: int, environment: dict[str, str], ready: ReadyMessage) -> int:
    """Run BentoML's server until it ends; return its exit code."""
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
    command += ["--host", host, "--port", str(port)]
    command += ["--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
    process = subprocess.Popen(  # noqa: S603
        command,
        env=environment,
        start_new_session=True,  # so that Ctrl-C at the terminal reaches only this process
        preexec_fn=partial(end_with_parent, signal.SIGTERM),  # SIGTERM makes it drain
    )
    forward_signals(process)
    threading.Thread(target=announce_ready, args=(process, ready), daemon=True).start()
    return process.wait()


def check_port(host: str, port: int) -> None:
    """Check that the service can listen on the port.

    Raises:
        LaunchError: it can't.
    """
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, OverflowError) as exc:
        raise LaunchError(
            f"The service can't listen on {host}:{port} ({getattr(exc, 'strerror', exc)}). "
            f"Choose another port, for example: make serve PORT={port + 1}"
        ) from None


def forward_signals(process: subprocess.Popen[bytes]) -> None:
    """Let SIGTERM drain the workers and SIGINT stop them at once."""

    def terminate(_: int, __: FrameType | None) -> None:
        process.terminate()

    def interrupt(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(process.pid).children(recursive=True):
                worker.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)


def announce_ready(process: subprocess.Popen[bytes], ready: ReadyMessage) -> None:
    """Print the message as soon as the default model can answer."""
    pause, longest_pause = POLL_SECONDS
    while not is_ready(ready.url):
        if process.poll() is not None:
            return
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)
    print(ready, flush=True)  # noqa: T201


def is_ready(url: str) -> bool:
    """Whether `/readyz` says that the service is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as response:  # noqa: S310
            return bool(json.load(response)["ready"])
    except (OSError, ValueError):
        return False
