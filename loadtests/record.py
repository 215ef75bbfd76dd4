"""What the run was like over time: samples of Locust's growing statistics, and the windows between.

Works on the process that sees all requests: the only one, or the master of several.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

PERCENTILES = (0.50, 0.95, 0.99)
WINDOWS = 60  # at most so many points in a plot


class Sample(NamedTuple):
    """The statistics of all endpoints together so many seconds after the start."""

    seconds: float
    users: int
    requests: int
    failures: int
    times: dict[int, int]  # how many answers took so many milliseconds


class Window(NamedTuple):
    """What happened between two samples."""

    seconds: float  # in the middle
    users: int
    rate: float  # requests a second
    failures: int
    percentiles: tuple[float, ...]  # milliseconds; empty when nothing was answered


def take_sample(seconds: float, users: int, total: Any) -> Sample:
    """A sample of Locust's `total` entry."""
    times = {round(time): count for time, count in total.response_times.items()}
    return Sample(seconds, users, total.num_requests, total.num_failures, times)


def find_windows(samples: list[Sample]) -> list[Window]:
    """The differences of the samples, at most `WINDOWS` of them."""
    step = -(-len(samples) // (WINDOWS + 1)) if samples else 1
    chosen = samples[::step]
    windows = []
    for before, after in pairwise(chosen):
        span = after.seconds - before.seconds
        times = {t: n - before.times.get(t, 0) for t, n in after.times.items()}
        windows.append(
            Window(
                (before.seconds + after.seconds) / 2,
                after.users,
                (after.requests - before.requests) / span,
                after.failures - before.failures,
                tuple(find_percentile(times, share) for share in PERCENTILES)
                if any(times.values())
                else (),
            )
        )
    return windows


def find_percentile(times: Mapping[int, int], share: float) -> float:
    """Milliseconds that `share` of the answers stayed within: the smallest that reaches it."""
    wanted, seen = share * sum(times.values()), 0
    for time in sorted(times):
        seen += times[time]
        if times[time] and seen >= wanted:
            return time
    return max(times, default=0)
