"""Compares measured latencies with the objectives: one row per endpoint, and the verdict."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

OBJECTIVES_FILE = Path(__file__).with_name("objectives.toml")
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# Of fewer requests, the percentile is the slowest one: a single slow request would decide.
MIN_REQUESTS = {"p50": 4, "p95": 40, "p99": 200}
NEEDED = "p95"  # an endpoint with too few requests for it is not judged
MET, MISSED, TOO_FEW = 0, 1, 3  # exit codes; 2 is that of a wrong argument
MARGIN = 1.5  # the numbers of requests vary from run to run


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
    unjudged: list[str]  # names of percentiles with a limit, but too few requests


def read_objectives(path: Path = OBJECTIVES_FILE) -> dict[str, Any]:
    """Read the objectives from the file."""
    return tomllib.loads(path.read_text())


def compare(measured: Mapping[str, Measured], objectives: Mapping[str, Any]) -> list[Row]:
    """Make a row for each endpoint that was called, sorted by name."""
    rows = []
    for endpoint, entry in sorted(measured.items()):
        times = {name: entry.get_response_time_percentile(p) for name, p in PERCENTILES.items()}
        limits = objectives["latency"].get(endpoint, {})
        unjudged = [name for name in limits if entry.num_requests < MIN_REQUESTS[name]]
        judged = {name: limit for name, limit in limits.items() if name not in unjudged}
        missed = list(_find_missed(entry, times, judged, objectives["error_rate"]))
        counts = entry.num_requests, entry.num_failures
        rows.append(Row(endpoint, *counts, times, limits, missed, unjudged))
    return rows


def judge(rows: list[Row]) -> int:
    """The exit code: `MET`, `MISSED` by any endpoint or nothing measured, or else `TOO_FEW`."""
    if not rows or any(row.missed for row in rows):
        return MISSED
    return TOO_FEW if _find_too_few(rows) else MET


def describe_verdict(rows: list[Row]) -> str:
    """The verdict in one sentence."""
    if not rows:
        return "Objectives missed: nothing was measured."
    if missed := [row for row in rows if row.missed]:
        return f"Objectives missed by {len(missed)} of {len(rows)} endpoints."
    if too_few := _find_too_few(rows):
        return f"Too few requests to judge {len(too_few)} of {len(rows)} endpoints."
    return "All objectives met."


def advise(rows: list[Row], seconds: float) -> str:
    """How long a run would give every endpoint enough requests, after one of `seconds`."""
    fewest = min((row.requests for row in _find_too_few(rows)), default=0)
    if not fewest:
        return ""
    longer = 10 * math.ceil(MARGIN * seconds * MIN_REQUESTS[NEEDED] / fewest / 10)
    return (
        f"Each endpoint needs {MIN_REQUESTS[NEEDED]} requests; the fewest were {fewest}. "
        f"Run longer, for example SECONDS={longer}, or with more users.\n"
    )


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
    """The objectives that one endpoint missed, or "met", or which of them were not judged."""
    if row.missed:
        return "missed: " + ", ".join(row.missed)
    if NEEDED in row.unjudged:
        return f"too few to judge: {MIN_REQUESTS[NEEDED]} needed"
    if row.unjudged:
        return f"met; too few for {' and '.join(row.unjudged)}"
    return "met"


def _find_too_few(rows: list[Row]) -> list[Row]:
    return [row for row in rows if NEEDED in row.unjudged]


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
