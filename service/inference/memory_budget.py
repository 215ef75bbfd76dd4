"""The bytes that all requests of a worker hold: their bodies, pixels, and answers nobody has read.

This module runs on the event loop. It knows sizes, and nothing about images, models and HTTP.
"""

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import NamedTuple

from service.errors import PayloadTooLarge
from service.settings import Settings

BYTES_PER_PIXEL = 4  # of a decoded image
KEPT_FOR_BODIES = 4  # pixels leave a quarter of the room for bodies, so that requests can arrive
PASSING_SHARE = 0.5  # of the deadline, in which others of its kind may pass a picture that waits
# The room for the largest picture, divided by these, is the most that small pictures and those of
# middle size need. As much is kept for each of these two kinds.
SMALL_SHARE, MIDDLE_SHARE = 25, 5


class Waiting(NamedTuple):
    """A picture that waits for room, in bytes; its future is done when it has got it."""

    size: int
    granted: "asyncio.Future[None]"
    since: float


class MemoryBudget:
    """What may be held at a time, and what is held."""

    def __init__(self, settings: Settings) -> None:
        self.bytes = 0
        self.max_bytes = settings.max_inflight_bytes
        # Bodies leave room for the largest image. Otherwise all images could wait for room to be
        # decoded, and none could get it.
        self.max_body_bytes = max(
            self.max_bytes // 4, self.max_bytes - BYTES_PER_PIXEL * settings.max_image_pixels
        )
        self.body_bytes = 0
        self.max_pixel_bytes = self.max_bytes - self.max_body_bytes
        self.response_bytes = 0
        self._passing_seconds = PASSING_SHARE * settings.request_timeout_ms / 1000
        self._waiting: list[Waiting] = []
        self._kinds = (self.max_pixel_bytes // SMALL_SHARE, self.max_pixel_bytes // MIDDLE_SHARE)
        self._held = [0, 0, 0]  # bytes of small, middle and large pictures

    def try_hold_body(self, size: int, instead_of: int = 0) -> bool:
        """Hold `size` bytes of a body if they are free now. Return whether they were.

        They take the place of the `instead_of` bytes of other bodies that are being dropped.
        """
        more = size - instead_of
        if self.count_missing_body_bytes(more) > 0:
            return False
        self.body_bytes += more
        self.bytes += more
        return True

    def count_missing_body_bytes(self, size: int) -> int:
        """Return how many of a body's `size` bytes are not free; less than 1 if all are."""
        return size + max(self.body_bytes - self.max_body_bytes, self.bytes - self.max_bytes)

    def free_body(self, size: int) -> None:
        """Free bytes of a body and give them to the pictures that wait."""
        self.body_bytes -= size
        self.bytes -= size
        self.grant_waiting()

    def try_reserve_pixels(self, size: int, is_drawn: bool = False) -> bool:
        """Reserve `size` bytes for pixels if they are free now. Return whether they were.

        `is_drawn`: the bytes are for drawing on the image as well.

        Raises:
            PayloadTooLarge: the pixels do not fit even into an idle server.
        """
        if size > self.max_pixel_bytes:
            work = "Decoding the image and drawing on it" if is_drawn else "Decoding the image"
            advice = ", or set 'size' to a smaller value" if is_drawn else ""
            raise PayloadTooLarge(
                f"{work} needs {size} bytes, but this server has at most "
                f"{self.max_pixel_bytes}. Send a smaller image{advice}."
            )
        overdue = [
            self._find_kind(waiting.size) for waiting in self._waiting if self._is_overdue(waiting)
        ]
        if not self._has_room(size, min(overdue, default=None)):
            return False
        self._hold_pixels(size)
        return True

    async def reserve_pixels(self, size: int, is_drawn: bool = False) -> None:
        """Wait for `size` bytes for pixels. `is_drawn` is as in `try_reserve_pixels`.

        Requests get them in the order they asked. But those that need less than is free pass one
        that needs more, until that one has waited for half of a deadline. Afterwards, only smaller
        kinds of pictures pass it, in the room that is kept for them.

        Raises:
            PayloadTooLarge: the pixels do not fit even into an idle server.
        """
        if self.try_reserve_pixels(size, is_drawn):
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(size, granted, perf_counter()))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self.grant_waiting()  # the next ones may need fewer bytes
            else:
                self.free_pixels(size, size)
            raise

    def free_pixels(self, size: int, reserved: int) -> None:
        """Free some of the bytes reserved for a picture. Give them to the requests that wait."""
        self.bytes -= size
        self._held[self._find_kind(reserved)] -= size
        self.grant_waiting()

    def grant_waiting(self) -> None:
        """Give free bytes to the requests that wait for them."""
        if not self._waiting:
            return
        still_waiting = []
        overdue: int | None = None  # the smallest kind of those that were not granted
        for waiting in self._waiting:
            if waiting.granted.done():
                continue
            if self._has_room(waiting.size, overdue):
                self._hold_pixels(waiting.size)
                waiting.granted.set_result(None)
            else:
                still_waiting.append(waiting)
                if self._is_overdue(waiting):
                    kind = self._find_kind(waiting.size)
                    overdue = kind if overdue is None else min(kind, overdue)
        self._waiting = still_waiting

    def _has_room(self, size: int, overdue: int | None) -> bool:
        """Whether a picture may have room. `overdue` is the smallest kind that waits too long."""
        kind = self._find_kind(size)
        bodies = max(self.body_bytes, self.max_body_bytes // KEPT_FOR_BODIES)
        # If there are many bodies or answers, less is kept, so that the largest picture finds room.
        spare = max(0, self.max_bytes - bodies - self.max_pixel_bytes)
        small = min(self._kinds[0], spare)
        shares = (small, min(self._kinds[1], max(0, spare - small - self.response_bytes)))
        if overdue is not None and (kind >= overdue or self._held[kind] + size > shares[kind]):
            return False
        kept = bodies - self.body_bytes
        for share, held in zip(shares[:kind], self._held, strict=False):
            kept += max(0, share - held)
        return self.bytes + size <= self.max_bytes - kept

    def _find_kind(self, size: int) -> int:
        """Return whether a picture is small (0), of middle size (1) or large (2)."""
        return bisect_left(self._kinds, size)

    def _hold_pixels(self, size: int) -> None:
        self.bytes += size
        self._held[self._find_kind(size)] += size

    def _is_overdue(self, waiting: Waiting) -> bool:
        return perf_counter() - waiting.since > self._passing_seconds

    def hold_response(self, size: int) -> None:
        """Count the bytes of a response that its client has not taken yet; negative frees them."""
        self.response_bytes += size
        self.bytes += size
        if size < 0:
            self.grant_waiting()

    def is_short_of_room(self) -> bool:
        """Whether unread responses take so much room that other requests may have to wait."""
        return self.response_bytes > self.max_bytes // 4
