"""Shares each turn of the event loop between the tasks that have something to do in it.

All tasks that are ready run in the same turn. If hundreds of them take milliseconds each, nobody
else is served for seconds. So a task asks before it takes long. Knows nothing of what tasks do.
"""

import asyncio
from collections import deque
from time import perf_counter

TURN_SECONDS = 0.005  # after which the other tasks wait for later turns
TASKS_PER_TURN = 4  # of those that had to wait


class LoopTime:
    """The time of the turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()  # while there are any, _wake will run
        self._end: float | None = None  # of this turn; None: nobody has taken time of it yet

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
        count = 0
        while self._waiting and count < TASKS_PER_TURN:
            woken = self._waiting.popleft()
            if not woken.done():  # it may have been cancelled
                woken.set_result(None)
                count += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake)
