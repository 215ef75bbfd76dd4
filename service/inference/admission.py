"""Room: how many images and bytes are in the house, and how long a newcomer would wait.

A slot is held from the headers to the answer, so what is being received or decoded counts, too.
Lives on the event loop; knows nothing of what the images are for.
"""

import asyncio
from collections import deque
from math import ceil
from time import perf_counter
from types import TracebackType

from service.errors import Overloaded, PayloadTooLarge
from service.settings import Settings

BYTES_PER_PIXEL = 4  # of a decoded picture in memory
YIELD_FROM_IMAGES = 8  # images in the house from which on it pays to run stage by stage
DECAY = 0.98  # per answered image, of what was measured before


class Admission:
    """The doorkeeper of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.images = 0
        self.active_images = 0  # images whose bytes have all come; who still sends, delays nobody
        self.bytes = 0
        self.max_images = settings.max_queue_size
        self.max_bytes = settings.max_inflight_bytes
        # Bodies leave room for the largest picture; else all could wait, none could be decoded.
        self.max_body_bytes = max(
            self.max_bytes // 4, self.max_bytes - BYTES_PER_PIXEL * settings.max_image_pixels
        )
        self.body_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._busy_seconds = 0.0
        self._completed = 0.0
        self.last_result = 0.0

    def admit(self, body_bytes: int, seconds_left: float) -> "Permit":
        """A slot for one image and the bytes announced.

        Raises:
            PayloadTooLarge: not even an idle server has that much room.
            Overloaded: no room now, or the wait would outlast the deadline.
        """
        self.check_fits(1, body_bytes)  # first: what never fits must not be told to come back
        if refusal := self.find_overload(seconds_left):
            raise refusal
        permit = Permit(self)
        permit.add_images(1)
        try:
            permit.add_body(body_bytes)
        except BaseException:
            permit.release()
            raise
        return permit

    def find_overload(self, seconds_left: float) -> Overloaded | None:
        """Why no image at all can be taken now, however small; None if one may be."""
        wait = self.predict_wait()
        if wait > seconds_left:
            return self.make_overloaded(
                f"The wait would be about {wait:.1f} s, longer than the deadline"
            )
        return self.find_full_queue(1)

    def find_full_queue(self, images: int) -> Overloaded | None:
        """Why so many more images can't be in the house now; None if they can."""
        if self.images + images > self.max_images:
            return self.make_overloaded("No room for more images now")
        return None

    def check_fits(self, images: int, body_bytes: int) -> None:
        """See that one request would have room in an idle server.

        Raises:
            PayloadTooLarge: it would not.
        """
        if images > self.max_images:
            raise PayloadTooLarge(
                f"{images} images were sent; this server takes at most {self.max_images} at a "
                "time: send fewer."
            )
        if body_bytes > self.max_body_bytes:
            raise PayloadTooLarge(
                f"{body_bytes} bytes were sent; this server holds at most {self.max_body_bytes} "
                "at a time: send less."
            )

    def predict_wait(self) -> float:
        """Seconds until all images at work are answered, at the pace of late."""
        return self.active_images * self._busy_seconds / self._completed if self._completed else 0.0

    async def yield_to_backlog(self) -> None:
        """In a crowd, stand back until the others who are ready have come as far.

        So a stage is run for all of them in a row, while its code and data are in the processor's
        caches; alone, it would only be a turn of the event loop more.
        """
        if self.images >= YIELD_FROM_IMAGES:
            await asyncio.sleep(0)

    async def reserve_pixels(self, size: int) -> None:
        """Wait for room for `size` bytes of decoded pixels; first come, first served.

        Raises:
            PayloadTooLarge: not even an idle server has that much room.
        """
        if size > self.max_bytes - self.max_body_bytes:
            raise PayloadTooLarge(
                f"The image needs {size} bytes when decoded; this server holds at most "
                f"{self.max_bytes - self.max_body_bytes}: send a smaller one."
            )
        if self._waiting or self.bytes + size > self.max_bytes:
            granted = asyncio.get_running_loop().create_future()
            self._waiting.append((size, granted))
            try:
                await granted
            except asyncio.CancelledError:
                if granted.cancelled():
                    self.grant_waiting()  # those behind may need less
                else:
                    self.free_pixels(size)
                raise
        else:
            self.bytes += size

    def free_pixels(self, size: int) -> None:
        """Give reserved bytes back, to whoever waits for them."""
        self.bytes -= size
        self.grant_waiting()

    def grant_waiting(self) -> None:
        """Hand free room to those who wait for it."""
        while self._waiting:
            size, granted = self._waiting[0]
            if not granted.done():
                if self.bytes + size > self.max_bytes:
                    return
                self.bytes += size
                granted.set_result(None)
            self._waiting.popleft()

    def make_overloaded(self, why: str) -> Overloaded:
        """The sentence for no room, with when to come back."""
        wait = max(1, ceil(self.predict_wait()))
        return Overloaded(f"{why}: come back in {wait} s.", wait)

    def start_work(self, count: int) -> None:
        """So many more images are at work; the clock of the pace runs while there are any."""
        if self.active_images == 0:
            self.last_result = perf_counter()
        self.active_images += count

    def record_results(self, count: int) -> None:
        """Learn the pace: time between answers while there was work."""
        now = perf_counter()
        fade = DECAY**count
        self._busy_seconds = self._busy_seconds * fade + (now - self.last_result)
        self._completed = self._completed * fade + count
        self.last_result = now


class Permit:
    """The room one request holds; left, it is free again."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._images = 0
        self._body_bytes = 0
        self._body_received = False
        self.answered = False

    def add_images(self, count: int) -> None:
        """Room for more images.

        Raises:
            PayloadTooLarge: more than an idle server takes.
            Overloaded: no room now.
        """
        admission = self._admission
        admission.check_fits(self._images + count, self._body_bytes)
        if refusal := admission.find_full_queue(count):
            raise refusal
        admission.images += count
        self._images += count
        if self._body_received:
            admission.start_work(count)

    def add_body(self, size: int) -> None:
        """Room for more bytes of the body.

        Raises:
            PayloadTooLarge: more than an idle server takes.
            Overloaded: no room now.
        """
        admission = self._admission
        admission.check_fits(self._images, self._body_bytes + size)
        too_much = admission.body_bytes + size > admission.max_body_bytes
        if too_much or admission.bytes + size > admission.max_bytes:
            raise admission.make_overloaded("No room for more bytes now")
        admission.body_bytes += size
        admission.bytes += size
        self._body_bytes += size

    def mark_body_received(self) -> None:
        """The whole body is here: its images are at work from now on."""
        self._body_received = True
        self._admission.start_work(self._images)

    def release(self) -> None:
        """Leave."""
        admission = self._admission
        if self._body_received:
            admission.active_images -= self._images
        if self.answered:
            admission.record_results(self._images)
        admission.images -= self._images
        admission.body_bytes -= self._body_bytes
        admission.bytes -= self._body_bytes
        self._images = self._body_bytes = 0
        admission.grant_waiting()

    def __enter__(self) -> "Permit":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
