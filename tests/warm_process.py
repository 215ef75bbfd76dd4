"""Starts one worker of the service in a tenth of the time that a whole server takes.

Most of a server's start is imports. So one process imports the service and then forks a worker for
each server. The worker runs what BentoML's worker runs behind `python -m service serve`: the same
application, the same protocol class and a real port. Its metrics, log, environment and memory are
its own. It has no launcher and no supervisor. `start_server` starts those.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import uvicorn

from tests.server import PATIENCE, ROOT, Server, connect_client, make_environment

IMPORTED = (  # modules that a worker imports when it starts
    "_bentoml_impl.client",
    "_bentoml_impl.server.app",
    "bentoml._internal.server.http.access",
    "bentoml._internal.server.http.traffic",
    "bentoml._internal.utils.telemetry",
    "bentoml.container",
    "opentelemetry.instrumentation.asgi",
    "opentelemetry.sdk.trace.export",
    "service.app",
    "service.server.application",
    "service.server.uvicorn_protocol",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
)


@contextlib.contextmanager
def start_worker(models_dir: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """Start a worker with `settings` (lower-case names), and stop it at the end.

    The log goes to `folder`. The worker may not be ready yet: see `Server.wait_ready`.
    """
    environment = make_environment({"models_dir": models_dir, **settings})
    descriptor, log_path = tempfile.mkstemp(".log", "worker-", folder)
    os.close(descriptor)
    pid, port = request_worker(environment, log_path)
    with connect_client(port) as client:
        try:
            yield Server(port, pid, Path(log_path), client)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # a test may have ended it
                worker = psutil.Process(pid)
                worker.send_signal(signal.SIGINT)
                worker.wait(PATIENCE)


def request_worker(environment: dict[str, str], log_path: str) -> tuple[int, int]:
    """Request a worker from the warm process. Return its process id and port."""
    warm = start_warm_process()
    assert warm.stdin
    assert warm.stdout
    warm.stdin.write(json.dumps({"environment": environment, "log_path": log_path}) + "\n")
    warm.stdin.flush()
    pid, port = warm.stdout.readline().split()
    return int(pid), int(port)


@cache
def start_warm_process() -> "subprocess.Popen[str]":
    """Start the process that forks the workers. It ends when this process ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.warm_process"],
        cwd=ROOT,
        env=make_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def fork_workers() -> None:
    """Fork a worker for each line of standard input, and print its process id and port."""
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead workers must not stay as zombies
    gc.freeze()  # the collector must not touch shared pages
    while line := sys.stdin.readline():
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            pid = os.fork()
            if pid == 0:
                try:
                    work(listener, **json.loads(line))
                finally:
                    os._exit(0)
            print(pid, listener.getsockname()[1], flush=True)  # noqa: T201


def work(listener: socket.socket, environment: dict[str, str], log_path: str) -> None:
    """Serve on `listener` until a signal ends the process."""
    from service.machine import end_with_parent

    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(log_path, os.O_WRONLY | os.O_APPEND)
    for standard, own in ((0, nothing), (1, log), (2, log)):
        os.dup2(own, standard)
    os.environ.clear()
    os.environ.update(environment)
    application = importlib.import_module("service.app").Sightglass.to_asgi()
    config = uvicorn.Config(
        application, log_config=None, timeout_keep_alive=75, server_header=False
    )
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sightglass-tests-") as home:
        os.environ |= {"BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"}
        fork_workers()
