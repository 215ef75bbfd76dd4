"""Work that is done once for all requests that need its result at the same time.

So many requests at once cost as much as one. It knows nothing about the work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class SharedResult(Generic[T]):
    """The result of `make`. No caller gets a result whose computation began before its call."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return a new result. All callers that come while one is computed share the next one."""
        if self._next is None:
            self._next = asyncio.create_task(self._run_after(self._running))
        # A caller that is cancelled must not cancel the work for the others.
        return await asyncio.shield(self._next)

    async def _run_after(self, before: "asyncio.Task[T] | None") -> T:
        if before:
            await asyncio.wait({before})
        running, self._next = self._next, None
        self._running = running
        try:
            return await self._make()
        finally:
            if self._running is running:  # callers keep the result as long as they need it
                self._running = None


class SharedResults(Generic[K, T]):
    """The same for the results of many keys. It keeps nothing that nobody waits for."""

    def __init__(self, make: Callable[[K], Awaitable[T]]) -> None:
        self._make = make
        self._results: dict[K, SharedResult[T]] = {}
        self._callers: dict[K, int] = {}

    async def get(self, key: K) -> T:
        """Return a new result for a key, as `SharedResult` does."""
        if key not in self._results:
            self._results[key] = SharedResult(partial(self._make, key))
        self._callers[key] = self._callers.get(key, 0) + 1
        try:
            return await self._results[key].get()
        finally:
            self._callers[key] -= 1
            if not self._callers[key]:
                del self._callers[key], self._results[key]
