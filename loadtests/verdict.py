"""Compares measured latencies with the objectives: one row per endpoint, and the verdict."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

OBJECTIVES_FILE = Path(__file__).with_name("objectives.toml")
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Measured(Protocol):
    """Locust's statistics of one endpoint."""

    num_requests: int
    num_failures: int

    def get_response_time_percentile(self, percent: float) -> float:
        """The milliseconds within which this share of the requests was answered."""


class Row(NamedTuple):
    """The result of one endpoint."""

    endpoint: str
    requests: int
    failures: int
    times: dict[str, float]  # milliseconds by name of percentile
    limits: dict[str, float]
    missed: list[str]


def read_objectives(path: Path = OBJECTIVES_FILE) -> dict[str, Any]:
    """Read the objectives from the file."""
    return tomllib.loads(path.read_text())


def compare(measured: Mapping[str, Measured], objectives: Mapping[str, Any]) -> list[Row]:
    """Make a row for each endpoint that was called, sorted by name."""
    rows = []
    for endpoint, entry in sorted(measured.items()):
        times = {name: entry.get_response_time_percentile(p) for name, p in PERCENTILES.items()}
        limits = objectives["latency"].get(endpoint, {})
        missed = list(_find_missed(entry, times, limits, objectives["error_rate"]))
        rows.append(Row(endpoint, entry.num_requests, entry.num_failures, times, limits, missed))
    return rows


def is_met(rows: list[Row]) -> bool:
    """Whether anything was measured and all objectives were met."""
    return bool(rows) and not any(row.missed for row in rows)


def describe_verdict(rows: list[Row]) -> str:
    """The verdict in one sentence."""
    if not rows:
        return "Objectives missed: nothing was measured."
    missed = [row for row in rows if row.missed]
    if not missed:
        return "All objectives met."
    return f"Objectives missed by {len(missed)} of {len(rows)} endpoints."


def make_table(rows: list[Row]) -> str:
    """The rows as a table for a terminal."""
    heads = "".join(f"{name:>8}" for name in PERCENTILES)
    lines = [f"{'endpoint':<22}{'requests':>10}{'failed':>8}{heads}  verdict"]
    for row in rows:
        times = "".join(f"{row.times[name]:>8.0f}" for name in PERCENTILES)
        counts = f"{row.requests:>10}{row.failures:>8}"
        lines.append(f"{row.endpoint:<22}{counts}{times}  {describe_missed(row)}")
    return "\n".join(lines)


def describe_missed(row: Row) -> str:
    """The objectives that one endpoint missed, or "met"."""
    return "missed: " + ", ".join(row.missed) if row.missed else "met"


def _find_missed(
    entry: Measured, times: Mapping[str, float], limits: Mapping[str, float], error_rate: float
) -> Iterator[str]:
    if entry.num_requests == 0:
        yield "no requests"
        return
    if entry.num_failures > error_rate * entry.num_requests:
        yield f"{entry.num_failures / entry.num_requests:.1%} failed"
    for name, limit in limits.items():
        if times[name] > limit:
            yield f"{name} {times[name]:.0f} > {limit} ms"
