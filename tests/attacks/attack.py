"""An attack: what a hostile client sends, and what may happen to the server meanwhile."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.watch import Observed
from tests.server import Server

MEGABYTE = 1 << 20
MAX_GROWN = (256 + 64) * MEGABYTE  # the default of MAX_INFLIGHT_BYTES, and a margin
MAX_LIVEZ_P99 = 0.1  # seconds, on a machine that does nothing else


@dataclass(frozen=True)
class Attack:
    """One attack. It runs with a small `scale` in the tests, and with 1.0 in `make reliability`.

    `run` sends it and returns what it saw that must not be, such as a status of 500.
    `scale`, from 0 to 1, is the share of its largest size or duration.
    """

    name: str
    run: Callable[[Server, float], list[str]]
    max_grown: int = MAX_GROWN  # bytes
    max_cpu_seconds: float | None = None
    # Of the server, in lower case; of a function, what it returns.
    settings: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # of the good client
    write_models: Callable[[Path, float], object] | None = None  # more models, before the start


def send_until(seconds: float, clients: int, send: Callable[[], list[str]]) -> list[str]:
    """Have clients send again and again, until one sees a fault. Return what all of them saw."""
    end = time.monotonic() + seconds

    def send_until_end(_: int) -> list[str]:
        seen = send()
        while time.monotonic() < end and not seen:
            seen = send()
        return seen

    with ThreadPoolExecutor(clients) as pool:
        return [sentence for seen in pool.map(send_until_end, range(clients)) for sentence in seen]


def find_missed(
    attack: Attack, observed: Observed, seen: list[str], max_livez_p99: float = MAX_LIVEZ_P99
) -> list[str]:
    """Return a sentence for each bound that was missed. `max_livez_p99` is in seconds."""
    missed = [f"{attack.name}: {sentence}" for sentence in seen]
    if observed.grown > attack.max_grown:
        grown, bound = observed.grown // MEGABYTE, attack.max_grown // MEGABYTE
        missed.append(f"{attack.name}: memory grew by {grown} MB, {bound} MB are allowed")
    if observed.livez_p99 > max_livez_p99:
        missed.append(f"{attack.name}: /livez took {1000 * observed.livez_p99:.0f} ms (p99)")
    if attack.max_cpu_seconds is not None and observed.cpu_seconds > attack.max_cpu_seconds:
        missed.append(f"{attack.name}: {observed.cpu_seconds:.1f} s of CPU time")
    refused = {status: count for status, count in observed.answers.items() if status >= 500}
    if observed.faults or refused or not observed.answers:
        missed.append(f"{attack.name}: a good client got {observed.answers} {observed.faults[:3]}")
    return missed
