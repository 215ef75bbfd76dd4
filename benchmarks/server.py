"""A server under test: started, waited for, its processes' CPU and memory read, ended.

Knows no protocol but that a path answers 200 once it is ready.
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
LOOK_SECONDS = 0.3
IDLE_SHARE = 0.1  # of a core: what servers do that poll
SETTLING_SECONDS = 10
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.M)


class ServerFault(Exception):
    """Why a server can't be measured; one sentence."""


@dataclass
class Server:
    """A running server and all its processes."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    start_seconds: float

    def find_processes(self) -> list[psutil.Process]:
        """The parent and all below it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def read_cpu(self) -> float:
        """Seconds of CPU that its processes have used."""
        seconds = 0.0
        for process in self.find_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def read_peaks(self) -> list[float]:
        """The most each process had resident since it was forgotten, in MB, the largest first."""
        peaks = []
        for process in self.find_processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks += [int(kb) / 1024 for kb in PEAK.findall(status)]  # none of a zombie
        return sorted(peaks, reverse=True)

    def forget_peaks(self) -> None:
        """Begin anew with what each process has resident now."""
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
    """Run `command`, in which `{port}` stands for a free port, until the block is left.

    Raises:
        ServerFault: it ended or was not ready in time; the sentence says where its log is.
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
    """Return once `path` answers 200.

    Raises:
        ServerFault: as `start_server` says.
    """
    end = time.monotonic() + START_SECONDS
    url = f"http://127.0.0.1:{server.port}{path}"
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            if answer.status == 200:
                return
        if server.process.poll() is not None or time.monotonic() > end:
            raise ServerFault(f"{server.name} did not start; {log_path} may say why.")
        time.sleep(POLL_SECONDS)


def wait_idle(server: Server) -> None:
    """Return once it does next to nothing: the first worker that is ready may not be the last."""
    end = time.monotonic() + SETTLING_SECONDS
    used, before = LOOK_SECONDS, server.read_cpu()
    while used > IDLE_SHARE * LOOK_SECONDS and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        now = server.read_cpu()
        used, before = now - before, now


def stop(server: Server) -> None:
    """End all its processes, politely first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = server.find_processes()
        server.process.send_signal(signal.SIGINT)
        _, left = psutil.wait_procs(processes, STOP_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    server.process.wait()


def find_free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
