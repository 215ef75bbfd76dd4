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
CROWD = 8  # images in the house from which on it pays to run stage by stage
FADE = 0.98  # per answered image, of what was measured before


class Admission:
    """The doorkeeper of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.images = 0
        self.working = 0  # images whose bytes have all come; who still sends, delays nobody
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
        self._answered = 0.0
        self.last_answer = 0.0

    def admit(self, body_bytes: int, seconds_left: float) -> "Slot":
        """A slot for one image and the bytes announced.

        Raises:
            PayloadTooLarge: not even an idle server has that much room.
            Overloaded: no room now, or the wait would outlast the deadline.
        """
        self.check_fits(1, body_bytes)  # first: what never fits must not be told to come back
        if refusal := self.find_no_room(seconds_left):
            raise refusal
        slot = Slot(self)
        slot.add_images(1)
        try:
            slot.add_body(body_bytes)
        except BaseException:
            slot.release()
            raise
        return slot

    def find_no_room(self, seconds_left: float) -> Overloaded | None:
        """Why no image at all can be taken now, however small; None if one may be."""
        wait = self.predict_wait()
        if wait > seconds_left:
            return self.refuse(f"The wait would be about {wait:.1f} s, longer than the deadline")
        return self.find_no_places(1)

    def find_no_places(self, images: int) -> Overloaded | None:
        """Why so many more images can't be in the house now; None if they can."""
        if self.images + images > self.max_images:
            return self.refuse("No room for more images now")
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
        return self.working * self._busy_seconds / self._answered if self._answered else 0.0

    async def catch_up(self) -> None:
        """In a crowd, stand back until the others who are ready have come as far.

        So a stage is run for all of them in a row, while its code and data are in the processor's
        caches; alone, it would only be a turn of the event loop more.
        """
        if self.images >= CROWD:
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
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.cancelled():
                    self.wake()  # those behind may need less
                else:
                    self.free_pixels(size)
                raise
        else:
            self.bytes += size

    def free_pixels(self, size: int) -> None:
        """Give reserved bytes back, to whoever waits for them."""
        self.bytes -= size
        self.wake()

    def wake(self) -> None:
        """Hand free room to those who wait for it."""
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if self.bytes + size > self.max_bytes:
                    return
                self.bytes += size
                turn.set_result(None)
            self._waiting.popleft()

    def refuse(self, why: str) -> Overloaded:
        """The sentence for no room, with when to come back."""
        wait = max(1, ceil(self.predict_wait()))
        return Overloaded(f"{why}: come back in {wait} s.", wait)

    def begin_work(self, count: int) -> None:
        """So many more images are at work; the clock of the pace runs while there are any."""
        if self.working == 0:
            self.last_answer = perf_counter()
        self.working += count

    def note_answers(self, count: int) -> None:
        """Learn the pace: time between answers while there was work."""
        now = perf_counter()
        fade = FADE**count
        self._busy_seconds = self._busy_seconds * fade + (now - self.last_answer)
        self._answered = self._answered * fade + count
        self.last_answer = now


class Slot:
    """The room one request holds; left, it is free again."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._images = 0
        self._body_bytes = 0
        self._arrived = False
        self.answered = False

    def add_images(self, count: int) -> None:
        """Room for more images.

        Raises:
            PayloadTooLarge: more than an idle server takes.
            Overloaded: no room now.
        """
        house = self._admission
        house.check_fits(self._images + count, self._body_bytes)
        if refusal := house.find_no_places(count):
            raise refusal
        house.images += count
        self._images += count
        if self._arrived:
            house.begin_work(count)

    def add_body(self, size: int) -> None:
        """Room for more bytes of the body.

        Raises:
            PayloadTooLarge: more than an idle server takes.
            Overloaded: no room now.
        """
        house = self._admission
        house.check_fits(self._images, self._body_bytes + size)
        too_much = house.body_bytes + size > house.max_body_bytes
        if too_much or house.bytes + size > house.max_bytes:
            raise house.refuse("No room for more bytes now")
        house.body_bytes += size
        house.bytes += size
        self._body_bytes += size

    def arrive(self) -> None:
        """The whole body is here: its images are at work from now on."""
        self._arrived = True
        self._admission.begin_work(self._images)

    def release(self) -> None:
        """Leave."""
        house = self._admission
        if self._arrived:
            house.working -= self._images
        if self.answered:
            house.note_answers(self._images)
        house.images -= self._images
        house.body_bytes -= self._body_bytes
        house.bytes -= self._body_bytes
        self._images = self._body_bytes = 0
        house.wake()

    def __enter__(self) -> "Slot":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
