"""Starts and stops a server under test, and reads the CPU time and memory of its processes.

It knows only that a path answers 200 once the server is ready.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.material import CACHE

START_SECONDS = 90
STOP_SECONDS = 15
POLL_SECONDS = 0.02
CHECK_SECONDS = 0.3
IDLE_SHARE = 0.1  # of a core, which servers use to poll
SETTLING_SECONDS = 10
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.M)


class ServerError(Exception):
    """A server can't be measured; the message is one sentence."""


@dataclass
class Server:
    """A running server and all its processes."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    start_seconds: float

    def find_processes(self) -> list[psutil.Process]:
        """The parent process and all its descendants."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def read_cpu(self) -> float:
        """The CPU seconds that all processes have used."""
        seconds = 0.0
        for process in self.find_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def read_peaks(self) -> list[float]:
        """The peak memory of each process since the last reset, in MB, the largest first."""
        peaks = []
        for process in self.find_processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks += [int(kb) / 1024 for kb in PEAK.findall(status)]  # a zombie has none
        return sorted(peaks, reverse=True)

    def reset_peaks(self) -> None:
        """Reset the peak of each process to its current memory."""
        for process in self.find_processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def start_server(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    ready_path: str,
    cores: Sequence[int] | None = None,
) -> Iterator[Server]:
    """Run `command`, with a free port for `{port}`, until the block ends.

    Raises:
        ServerError: it ended or was not ready in time; the message names its log.
    """
    port = find_free_port()
    log_path = CACHE / "logs" / f"{name}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(  # noqa: S603
            [word.format(port=port) for word in command],
            cwd=folder,
            env=os.environ | dict(environment),
            stdout=log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if cores:
        psutil.Process(process.pid).cpu_affinity(list(cores))
    server = Server(name, port, process, 0)
    try:
        wait_ready(server, ready_path, log_path)
        server.start_seconds = time.monotonic() - started
        wait_idle(server)
        yield server
    finally:
        stop(server)


def wait_ready(server: Server, path: str, log_path: Path) -> None:
    """Wait until `path` answers 200.

    Raises:
        ServerError: as `start_server` says.
    """
    end = time.monotonic() + START_SECONDS
    url = f"http://127.0.0.1:{server.port}{path}"
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            if answer.status == 200:
                return
        if server.process.poll() is not None or time.monotonic() > end:
            raise ServerError(
                f"{server.name} did not start. Its log may give the reason: {log_path}"
            )
        time.sleep(POLL_SECONDS)


def wait_idle(server: Server) -> None:
    """Wait until the server is idle, because other workers may still be starting."""
    end = time.monotonic() + SETTLING_SECONDS
    used, before = CHECK_SECONDS, server.read_cpu()
    while used > IDLE_SHARE * CHECK_SECONDS and time.monotonic() < end:
        time.sleep(CHECK_SECONDS)
        now = server.read_cpu()
        used, before = now - before, now


def stop(server: Server) -> None:
    """Interrupt the server, then kill the processes that remain."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = server.find_processes()
        server.process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(processes, STOP_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    server.process.wait()


def find_free_port() -> int:
    """A free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
