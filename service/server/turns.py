"""Work of many connections, done a few milliseconds at a time.

What thousands of clients send at once would hold the event loop for long. So each connection takes
turns, and the loop sees to everything else in between. This module knows no connections.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

TURN_SECONDS = 0.005  # after which the event loop goes on with other things
AT_ONCE = 16  # steps in one turn of the event loop: each leaves work for the next one
MAX_SKIPPED = 256  # turns in a row, which only accept connections


class Turns:
    """Steps that wait for their turn, in order."""

    def __init__(self, is_full: Callable[[], bool]) -> None:
        """`is_full` says whether so much waits that the steps come before all else."""
        self._is_full = is_full
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False
        self._at_once = 0
        self._has_arrival = False
        self._skipped = 0

    def note_arrival(self) -> None:
        """Note that a connection was accepted in this turn of the event loop.

        The loop accepts a few in each turn. While they come, the steps wait, so that a connection
        behind many others is soon accepted as well.
        """
        if not self._has_arrival:
            self._has_arrival = True
            asyncio.get_running_loop().call_soon(self._forget_arrival)

    def may_skip(self, is_urgent: bool = False) -> bool:
        """Return whether a short step need not wait, because few came with it.

        An urgent one need not wait for those that are not.
        """
        if is_urgent:
            must_wait = self._at_once >= 2 * AT_ONCE
        else:
            must_wait = self._has_arrival or bool(self._waiting) or self._at_once >= AT_ONCE
        if must_wait:
            return False
        if not self._at_once:
            asyncio.get_running_loop().call_soon(self._begin_anew)
        self._at_once += 1
        return True

    def add(self, step: Callable[[], None]) -> None:
        """Call `step` soon, after those that wait already."""
        self._waiting.append(step)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _forget_arrival(self) -> None:
        self._has_arrival = False

    def _begin_anew(self) -> None:
        self._at_once = 0

    def _run(self) -> None:
        self._is_scheduled = False
        if self._has_arrival and self._skipped < MAX_SKIPPED and not self._is_full():
            self._skipped += 1
            self._schedule()
            return
        self._skipped = 0
        end = perf_counter() + TURN_SECONDS
        try:
            for _ in range(AT_ONCE):
                if not self._waiting or perf_counter() >= end:
                    break
                self._waiting.popleft()()
        finally:
            self._schedule()
