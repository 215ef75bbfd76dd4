"""Shares each turn of the event loop between the tasks that have something to do in it.

All tasks that are ready run in the same turn. If hundreds of them take milliseconds each, nobody
else is served for seconds. So a task asks before it takes long. Knows nothing of what tasks do.
"""

import asyncio
from collections import deque
from time import perf_counter

TURN_SECONDS = 0.005  # after which the other tasks wait for later turns
MAX_TASKS = 16  # of those that had to wait, in one turn; only one if the one before took long
FREE_TURNS = 8  # after one that took long; the loop accepts one connection in each


class LoopTime:
    """The time of the turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()  # while there are any, _wake will run
        self._end: float | None = None  # of this turn; None: nobody has taken time of it yet
        self._began = 0.0  # this turn
        self._has_woken = False  # tasks, for this turn
        self._tasks_per_turn = self._free_turns = 0

    async def take(self) -> None:
        """Return at once if there is time left in this turn, else in a later one, in order."""
        if not self._waiting and self._is_left():
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._wake)
        woken = loop.create_future()
        self._waiting.append(woken)
        await woken

    def _is_left(self) -> bool:
        now = perf_counter()
        if self._end is None:
            self._end = now + TURN_SECONDS
            asyncio.get_running_loop().call_soon(self._end_turn)
        return now < self._end

    def _end_turn(self) -> None:
        self._end = None

    def _wake(self) -> None:
        """Wake a few tasks. How long they take is known only after their turn."""
        before, self._began = self._began, perf_counter()
        if self._has_woken and self._began - before > TURN_SECONDS:
            self._tasks_per_turn, self._free_turns = 0, FREE_TURNS
        self._has_woken = not self._free_turns
        if self._has_woken:
            self._tasks_per_turn = min(max(1, 2 * self._tasks_per_turn), MAX_TASKS)
            self._wake_next()
        else:
            self._free_turns -= 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake_next(self) -> None:
        count = 0
        while self._waiting and count < self._tasks_per_turn:
            woken = self._waiting.popleft()
            if not woken.done():  # it may have been cancelled
                woken.set_result(None)
                count += 1
