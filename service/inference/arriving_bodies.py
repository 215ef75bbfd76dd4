"""The bodies that have not arrived as a whole: how many, and which are dropped when room is short.

A client that sends little of what it announced must not keep others out. This module runs on the
event loop. It knows times and sizes, and nothing about HTTP.
"""

from time import perf_counter
from typing import Generic, Protocol, TypeVar

STEP_BYTES = 65_536
SLOW_SECONDS = 0.25  # for one step: less than 256 kB per second, as with answers


class ArrivingBody(Protocol):
    """What this module needs of a body."""

    body_bytes: int  # that have arrived


Body = TypeVar("Body", bound=ArrivingBody)


class ArrivingBodies(Generic[Body]):
    """All bodies of one worker that are still arriving, the one with the oldest step first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[Body, float] = {}  # the last step of each; it keeps the order

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._since)

    def add(self, body: Body) -> Body | None:
        """Add a body. Return the one that must be dropped because there are too many."""
        first = next(iter(self._since)) if len(self._since) >= self._most else None
        self._since[body] = perf_counter()
        return first

    def remove(self, body: Body) -> None:
        """Forget a body that has arrived or was dropped."""
        self._since.pop(body, None)

    def note_progress(self, body: Body, before: int) -> None:
        """Note that more of a body has arrived than the `before` bytes."""
        if body.body_bytes // STEP_BYTES > before // STEP_BYTES:
            del self._since[body]
            self._since[body] = perf_counter()

    def find_slow(self, asking: Body, needed: int) -> list[Body]:
        """Return the slow bodies, the slowest first, that hold the bytes needed for another.

        The list is empty if all of them together hold too few.
        """
        latest = perf_counter() - SLOW_SECONDS
        found: list[Body] = []
        for body, since in self._since.items():
            if since > latest:
                break
            if body.body_bytes and body is not asking:
                found.append(body)
                needed -= body.body_bytes
                if needed <= 0:
                    return found
        return []
