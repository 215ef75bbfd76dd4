"""How many users there are over time, by a word: steady, ramp, spike or soak.

Pure arithmetic on the share of the run that has passed; knows nothing of Locust.
"""

from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """A course of the load; `users` is the share of the most, at a share of the run's time."""

    tells: str
    seconds: int  # unless the command says otherwise
    users: Callable[[float], float]


def _spike(done: float) -> float:
    """A tenth, ten times as many at once in the middle fifth, a tenth again."""
    return 1.0 if 0.4 <= done < 0.6 else 0.1


SHAPES = {
    "steady": Shape("all users from the first second on", 30, lambda _: 1.0),
    "ramp": Shape("from a tenth of the users evenly to all", 120, lambda done: 0.1 + 0.9 * done),
    "spike": Shape("a tenth of the users, all at once for a fifth of the time", 120, _spike),
    "soak": Shape("half of the users for an hour: what grows or leaks?", 3600, lambda _: 0.5),
}


def count_users(shape: str, most: int, seconds: float, run_seconds: float) -> int | None:
    """Users wanted so many `seconds` after the start; None when the run is over."""
    done = seconds / run_seconds
    return max(1, round(most * SHAPES[shape].users(done))) if done < 1 else None
