"""Which pictures may take long in a process: one fewer than there are, so that short ones find one.

Each picture first gets a short time. One that needs more takes a turn if one is free. If not, it is
stopped, waits for a turn, and begins again. This module runs on the event loop. It knows times, and
nothing about pictures and processes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

SHORT_SECONDS = 0.1  # of CPU time
LOOK_SECONDS = 0.05  # at least between two looks at the time that was used


class LongTurns:
    """The turns for those that take long. Others get them in the order they asked."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    def try_take(self) -> bool:
        """Take a turn if one is free. Return whether it was."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait for a turn."""
        if self.try_take():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give a turn to the next one that waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class LongTurn:
    """The turn that one picture has or not. Leaving the context gives it back."""

    def __init__(self, turns: LongTurns) -> None:
        self._turns = turns
        self._is_held = False

    async def take(self) -> None:
        """Wait for a turn."""
        await self._turns.take()
        self._is_held = True

    def watch(
        self, measure_seconds: Callable[[], float], stop: Callable[[], object]
    ) -> "ShortTime | None":
        """Stop work that takes longer than a short time, if no turn is free by then.

        Return None if the picture has its turn already.
        """
        return None if self._is_held else ShortTime(self, measure_seconds, stop)

    def try_take(self) -> bool:
        """Take a turn if one is free. Return whether it was."""
        self._is_held = self._turns.try_take()
        return self._is_held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            self._is_held = False
            self._turns.give_back()


class ShortTime:
    """Watches one piece of work until it has ended, or has its turn, or was stopped."""

    def __init__(
        self, turn: LongTurn, measure_seconds: Callable[[], float], stop: Callable[[], object]
    ) -> None:
        self.is_stopped = False
        self._turn = turn
        self._measure_seconds = measure_seconds
        self._stop = stop
        self._start(SHORT_SECONDS)

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _start(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        left = SHORT_SECONDS - self._measure_seconds()
        if left > 0:
            self._start(max(left, LOOK_SECONDS))
        elif not self._turn.try_take():
            self.is_stopped = True
            self._stop()
