"""Measured latencies against the objectives: a table, and whether they were met."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

OBJECTIVES_FILE = Path(__file__).with_name("objectives.toml")
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Measured(Protocol):
    """What Locust knows of one endpoint."""

    num_requests: int
    num_failures: int

    def get_response_time_percentile(self, percent: float) -> float:
        """Milliseconds that so large a share of the requests stayed under."""


def read_objectives(path: Path = OBJECTIVES_FILE) -> dict[str, Any]:
    """The objectives as they stand in the file."""
    return tomllib.loads(path.read_text())


def judge(measured: Mapping[str, Measured], objectives: Mapping[str, Any]) -> tuple[str, bool]:
    """The table, one line an endpoint, and whether all objectives were met."""
    lines = [
        f"{'endpoint':<16}{'requests':>10}{'failed':>8}{'p50':>8}{'p95':>8}{'p99':>8}  verdict"
    ]
    met = bool(measured)
    for endpoint, entry in measured.items():
        times = {name: entry.get_response_time_percentile(p) for name, p in PERCENTILES.items()}
        missed = list(_find_missed(endpoint, entry, times, objectives))
        met = met and not missed
        told = "".join(f"{times[name]:>8.0f}" for name in PERCENTILES)
        verdict = "met" if not missed else "missed: " + ", ".join(missed)
        counts = f"{entry.num_requests:>10}{entry.num_failures:>8}"
        lines.append(f"{endpoint:<16}{counts}{told}  {verdict}")
    return "\n".join(lines), met


def _find_missed(
    endpoint: str, entry: Measured, times: Mapping[str, float], objectives: Mapping[str, Any]
) -> Iterator[str]:
    if entry.num_requests == 0:
        yield "no requests"
        return
    if entry.num_failures > objectives["error_rate"] * entry.num_requests:
        yield f"{entry.num_failures / entry.num_requests:.1%} failed"
    for name, limit in objectives["latency"].get(endpoint, {}).items():
        if times[name] > limit:
            yield f"{name} {times[name]:.0f} > {limit} ms"
