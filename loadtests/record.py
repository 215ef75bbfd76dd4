"""Records the run over time: samples of Locust's totals, and the windows between two samples.

It works in the process that sees all requests: the only one, or the master of several.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

PERCENTILES = (0.50, 0.95, 0.99)
MAX_WINDOWS = 60  # points in a plot


class Sample(NamedTuple):
    """The totals of all endpoints, `seconds` after the start."""

    seconds: float
    users: int
    requests: int
    failures: int
    times: dict[int, int]  # number of answers by milliseconds


class Window(NamedTuple):
    """What happened between two samples."""

    seconds: float  # the middle of the window
    users: int
    rate: float  # requests per second
    failures: int
    percentiles: tuple[float, ...]  # milliseconds; empty if there was no answer


def take_sample(seconds: float, users: int, total: Any) -> Sample:
    """Make a sample of Locust's `total` entry."""
    times = {round(time): count for time, count in total.response_times.items()}
    return Sample(seconds, users, total.num_requests, total.num_failures, times)


def find_windows(samples: list[Sample]) -> list[Window]:
    """The windows between samples, at most `MAX_WINDOWS`."""
    step = -(-len(samples) // (MAX_WINDOWS + 1)) if samples else 1
    selected = samples[::step]
    windows = []
    for before, after in pairwise(selected):
        span = after.seconds - before.seconds
        times = {time: count - before.times.get(time, 0) for time, count in after.times.items()}
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
    """The smallest time in milliseconds within which `share` of the answers came."""
    required, count = share * sum(times.values()), 0
    for time in sorted(times):
        count += times[time]
        if times[time] and count >= required:
            return time
    return max(times, default=0)
