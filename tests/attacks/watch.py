"""Watches a server while an attack runs: memory, event loop, CPU time and a well-behaved client."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil

from tests.attacks.livez import poll_livez
from tests.contract.tree import PICTURE
from tests.server import Server, connect_client, wait_until

MEMORY_POLL_SECONDS = 0.01
PREDICT_POLL_SECONDS = 0.2


@dataclass
class Observed:
    """What happened to a server during an attack. The figures are complete after `watch` ends."""

    grown: int = 0  # bytes: the peak resident memory of all its processes, less that before
    kept: int = 0  # bytes: the same at the end, after the attack
    cpu_seconds: float = 0.0  # of all its processes
    livez_seconds: list[float] = field(default_factory=list)  # each answer's time
    answers: dict[int, int] = field(default_factory=dict)  # a good client's statuses and numbers
    faults: list[str] = field(default_factory=list)  # why a good client got no answer

    @property
    def livez_p99(self) -> float:
        """The 99th percentile of the time of `/livez`, in seconds."""
        return float(np.percentile(self.livez_seconds, 99)) if self.livez_seconds else 0.0

    def describe(self) -> dict[str, object]:
        """Return the figures for a report."""
        return {
            "grown_mb": round(self.grown / 2**20, 1),
            "kept_mb": round(self.kept / 2**20, 1),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "livez_p99_ms": round(1000 * self.livez_p99, 1),
            "livez_max_ms": round(1000 * max(self.livez_seconds, default=0.0), 1),
            "good_answers": self.answers,
            "good_faults": self.faults[:3],
        }


@contextlib.contextmanager
def watch(server: Server, **headers: str) -> Iterator[Observed]:
    """Watch `server` until the block ends. `headers` are the good client's, such as a key."""
    observed = Observed()
    end = threading.Event()
    before, cpu_before = measure_processes(server)
    loops = (_watch_memory, _watch_predict)
    threads = [
        threading.Thread(target=loop, args=(server, observed, end, before, headers))
        for loop in loops
    ]
    try:
        with poll_livez(server.port, observed.livez_seconds):
            for thread in threads:
                thread.start()
            yield observed
            # A short attack may be over before the good client has asked once.
            wait_until(lambda: bool(observed.answers or observed.faults))
    finally:
        end.set()
        for thread in threads:
            thread.join()
        after, cpu_after = measure_processes(server)
        observed.kept = after - before
        observed.cpu_seconds = cpu_after - cpu_before


def measure_processes(server: Server) -> tuple[int, float]:
    """Return the resident bytes and the CPU seconds of the workers and all their children."""
    resident, seconds = 0, 0.0
    for pid in server.find_workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker = psutil.Process(pid)
            times = worker.cpu_times()
            seconds += times.children_user + times.children_system
            for process in [worker, *worker.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss
                    own = process.cpu_times()
                    seconds += own.user + own.system
    return resident, seconds


def _watch_memory(
    server: Server, observed: Observed, end: threading.Event, before: int, _: dict[str, str]
) -> None:
    while not end.wait(MEMORY_POLL_SECONDS):
        observed.grown = max(observed.grown, measure_processes(server)[0] - before)


def _watch_predict(
    server: Server, observed: Observed, end: threading.Event, _: int, headers: dict[str, str]
) -> None:
    with connect_client(server.port) as client:
        while not end.wait(PREDICT_POLL_SECONDS):
            try:
                status = client.post("/predict", content=PICTURE, headers=headers).status_code
                observed.answers[status] = observed.answers.get(status, 0) + 1
            except httpx.TransportError as exc:
                observed.faults.append(repr(exc))
