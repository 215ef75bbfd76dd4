"""Work that is done once for all who ask for its result at the same time.

So a crowd of requests costs as much as one. It knows nothing about the work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedResult(Generic[T]):
    """The result of `make`. Who asks never gets one whose making began before."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return a new result; all who ask while one is made share the one after it."""
        if self._next is None:
            self._next = asyncio.create_task(self._run_after(self._running))
        # One who no longer waits must not end the work of the others.
        return await asyncio.shield(self._next)

    async def _run_after(self, before: "asyncio.Task[T] | None") -> T:
        if before:
            await asyncio.wait({before})
        running, self._next = self._next, None
        self._running = running
        try:
            return await self._make()
        finally:
            if self._running is running:  # a result is kept by those who wait for it, and not here
                self._running = None
