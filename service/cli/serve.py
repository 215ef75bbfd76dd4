"""Starts BentoML's server for a person or a container, and stops it the way they asked for.

BentoML's parent answers every signal by SIGTERM to its workers, which then drain; so this process
stands before it: SIGTERM is passed on, Ctrl-C goes to the workers themselves and ends them at once.
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

import psutil

from service.cli.workers import choose_workers
from service.machine import end_with_parent
from service.server.tracing import make_exporters
from service.settings import (
    BUNDLED_DEFAULT,
    ConfigurationError,
    read_settings,
    with_bundled_default,
)

SERVICE = "service.app:Sightglass"
BUNDLED_EXAMPLE = "docs/examples/dog_and_cat.jpg"
KEEP_ALIVE_SECONDS = 75  # longer than a proxy keeps an idle connection, so that it closes first
START_ATTEMPTS = 3
POLL_SECONDS = (0.1, 0.5)  # at first, and at most


class LaunchError(ConfigurationError):
    """What keeps the service from starting; one sentence."""


def serve(host: str, port: int) -> int:
    """Check what can be checked before the start, run BentoML's server, return its exit code.

    Raises:
        LaunchFault: nobody can listen on that port.
        SettingsFault, DeviceFault: as their own sentences say.
    """
    check_port(host, port)
    environment, example = os.environ | {"BENTOML_DO_NOT_TRACK": "True"}, "picture.jpg"
    settings = with_bundled_default(read_settings())
    make_exporters()  # the workers do; here a fault is still one sentence
    if settings.default_model == BUNDLED_DEFAULT:
        environment["SIGHTGLASS_DEFAULT_MODEL"], example = BUNDLED_DEFAULT, BUNDLED_EXAMPLE
    if settings.device == "cuda":
        from service.runtime.device import require_cuda  # onnxruntime is heavy, and else not needed

        require_cuda()
    workers = choose_workers(settings)
    environment["BENTOML_CONFIG_OPTIONS"] = f"services.sightglass.workers={workers}"
    # Workers of one server sum their metrics there; another server's must stay out of the sum.
    with tempfile.TemporaryDirectory(prefix="sightglass-") as home:
        environment.setdefault("BENTOML_HOME", home)
        command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
        command += ["--host", host, "--port", str(port)]
        command += ["--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
        # In a session of its own the terminal's Ctrl-C comes to us alone.
        for _ in range(START_ATTEMPTS):
            process = subprocess.Popen(  # noqa: S603
                command,
                env=environment,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),  # it drains
            )
            pass_signals_on(process)
            announcing = (process, f"http://{host}:{port}", example, workers)
            threading.Thread(target=announce, args=announcing, daemon=True).start()
            code = process.wait()
            # Its parent process fails (1) if a port it found free for itself is taken meanwhile.
            if code != 1:
                break
        return code


def check_port(host: str, port: int) -> None:
    """Find out whether one can listen there.

    Raises:
        LaunchFault: one can't.
    """
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, OverflowError) as fault:
        raise LaunchError(
            f"Can't listen on {host}:{port} ({getattr(fault, 'strerror', fault)}): "
            f"choose another port, as in: make serve PORT={port + 1}"
        ) from None


def pass_signals_on(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM drains, SIGINT does not."""

    def terminate(_: int, __: FrameType | None) -> None:
        process.terminate()

    def interrupt(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(process.pid).children(recursive=True):
                worker.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)


def announce(process: subprocess.Popen[bytes], url: str, example: str, workers: int) -> None:
    """Tell the person at the terminal when the default model can answer, and how to ask it."""
    pause, longest = POLL_SECONDS
    while not is_ready(url):
        if process.poll() is not None:
            return
        time.sleep(pause)
        pause = min(2 * pause, longest)
    processes = f" in {workers} processes" if workers > 1 else ""
    print(  # noqa: T201
        f"Sightglass is ready on {url}{processes} (Ctrl-C ends it). In another terminal:\n"
        f"  curl -F image=@{example} {url}/predict\n"
        f"  curl -F image=@{example} {url}/gradcam -o heatmap.png",
        flush=True,
    )


def is_ready(url: str) -> bool:
    """Whether `/readyz` says so."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as answer:  # noqa: S310
            return bool(json.load(answer)["ready"])
    except (OSError, ValueError):
        return False
