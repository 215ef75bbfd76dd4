"""Measures how much faster one session is than another. Knows no engine."""

import sys
from time import perf_counter, process_time

from service.artifact.card import Artifact
from service.runtime.engine import Session

MAX_ROUNDS = 20
MAX_SECONDS = 1.0  # after the first round
RESOLUTION = 1e-6  # of CPU time


def measure_speedup(fast: Session, slow: Session, artifact: Artifact, rows: int) -> float:
    """Return how many times as fast `fast` is, without and with a map for each row.

    It is a ratio of CPU time, since the server may be busy meanwhile. Both sessions run in turn. Of
    each the better of full batches and single rows counts, as when it serves.
    """
    sizes = {size: [artifact.make_batch(size, targets) for targets in (0, 1)] for size in (1, rows)}
    best = {fast: float("inf"), slow: float("inf")}
    for session in best:  # the first run of a batch size takes longer
        for batch in (batch for batches in sizes.values() for batch in batches):
            session.run(*batch)
    started = perf_counter()
    for _ in range(MAX_ROUNDS):
        for size, batches in sizes.items():
            for session in best:
                before = read_cpu_seconds()
                for batch in batches:
                    session.run(*batch)
                best[session] = min(best[session], (read_cpu_seconds() - before) / size)
        if perf_counter() - started > MAX_SECONDS:
            break
    return best[slow] / max(best[fast], RESOLUTION)


def read_cpu_seconds() -> float:
    """Return the CPU time of all threads of this process.

    Where CPU time is limited, as in the sandbox, Linux updates `process_time` at its ticks only.
    """
    if sys.platform == "win32":
        return process_time()
    import resource  # exists on Unix only

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
