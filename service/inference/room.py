"""The memory that is reserved for the pixels of one picture, from decoding to drawing.

It is held until the last thread or batch that works on the picture has ended, even if nobody waits
for it any more. Everything that a picture needs is reserved at once, so pictures never wait for
each other in a circle. Runs on the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import NamedTuple, ParamSpec, TypeVar

from service.imaging.memory import Drawing
from service.inference.memory_budget import MemoryBudget
from service.telemetry.timings import Interval

P = ParamSpec("P")
T = TypeVar("T")


class Room:
    """Bytes reserved for one picture. Leaving the context frees them, once no work uses them."""

    def __init__(
        self, memory: MemoryBudget, is_drawn: bool = False, on_end: Callable[[], None] | None = None
    ) -> None:
        """`on_end` is called when the last user has released it."""
        self.size = 0
        self._reserved = 0  # including what was freed since
        self._is_drawn = is_drawn
        self._memory = memory
        self._on_end = on_end
        self._users = 1

    def try_reserve(self, size: int) -> bool:
        """Reserve `size` bytes instead of those held, if they are free now. If not, hold none.

        Raises:
            PayloadTooLarge: they do not fit even into an idle server.
        """
        self.shrink(0)
        if self._memory.try_reserve_pixels(size, self._is_drawn):
            self.size = self._reserved = size
        return self.size == size

    async def reserve(self, size: int) -> None:
        """Wait for `size` bytes instead of those held.

        Raises:
            PayloadTooLarge: they do not fit even into an idle server.
        """
        self.shrink(0)
        await self._memory.reserve_pixels(size, self._is_drawn)
        self.size = self._reserved = size

    def shrink(self, size: int) -> None:
        """Free what is held beyond `size` bytes."""
        if size < self.size:
            freed, self.size = self.size - size, size
            self._memory.free_pixels(freed, self._reserved)

    def share(self) -> None:
        """Count one more user, who releases it as well."""
        self._users += 1

    def release(self) -> None:
        """Free the bytes if this was the last user."""
        self._users -= 1
        if self._users == 0:
            self.shrink(0)
            if self._on_end:
                self._on_end()

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Canvas(NamedTuple):
    """How a map is drawn, and the room for it, which must be released."""

    drawing: Drawing
    room: Room


def take_turns(
    function: Callable[P, Awaitable[T]], at_once: int, note_wait: Callable[[Interval], None]
) -> Callable[P, Coroutine[None, None, T]]:
    """Return the function with at most `at_once` of its calls running at a time.

    So a request with many images leaves places to others. `note_wait` is called after each wait.
    """
    turns = asyncio.Semaphore(at_once)

    async def wait_and_call(*arguments: P.args, **options: P.kwargs) -> T:
        arrived, must_wait = perf_counter(), turns.locked()
        async with turns:
            if must_wait:
                note_wait((arrived, perf_counter()))
            return await function(*arguments, **options)

    return wait_and_call


class Place:
    """One of the places that a model has for images in preparation.

    An image that waits for room, or for its turn to take long, leaves its place to others, and
    takes another one afterwards.
    """

    def __init__(
        self, slots: asyncio.Semaphore, count_active: Callable[[int], None] = lambda _: None
    ) -> None:
        """`count_active` is called with -1 when the image delays nobody any more, and with 1."""
        self._slots = slots
        self._count_active = count_active
        self._is_held = False

    async def enter(self) -> None:
        """Wait for a place."""
        self._count_active(1)
        await self._slots.acquire()
        self._is_held = True

    def leave(self) -> None:
        """Give the place to the next image until `enter`."""
        if self._is_held:
            self._count_active(-1)
            self._give_back()

    async def __aenter__(self) -> "Place":
        await self._slots.acquire()  # as `enter`, without a call
        self._is_held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_held:
            self._give_back()

    def _give_back(self) -> None:
        self._is_held = False
        self._slots.release()
