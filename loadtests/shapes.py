"""The number of users over time for each shape: steady, ramp, spike and soak.

Pure arithmetic on the share of the run that has passed. It knows nothing about Locust.
"""

from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """A load over time: `users` maps the share of the time to the share of the users."""

    description: str
    seconds: int  # the default duration
    users: Callable[[float], float]


def _spike(done: float) -> float:
    """A tenth of the users, but all users in the middle fifth of the time."""
    return 1.0 if 0.4 <= done < 0.6 else 0.1


SHAPES = {
    "steady": Shape("all users from the first second", 30, lambda _: 1.0),
    "ramp": Shape(
        "from a tenth of the users to all users, linearly", 120, lambda done: 0.1 + 0.9 * done
    ),
    "spike": Shape("a tenth of the users, but all users for a fifth of the time", 120, _spike),
    "soak": Shape(
        "half of the users for an hour, to find what grows or leaks", 3600, lambda _: 0.5
    ),
}


def count_users(shape: str, max_users: int, seconds: float, run_seconds: float) -> int | None:
    """The number of users `seconds` after the start; None after the end of the run."""
    done = seconds / run_seconds
    return max(1, round(max_users * SHAPES[shape].users(done))) if done < 1 else None
