"""Admission control: admits requests or rejects them, and predicts the wait.

A request holds a permit from its headers to its answer. Its bytes count as they arrive. Its images
count once its body is there, so one that is still decoded counts as well. This module runs on the
event loop and knows nothing about models.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from math import ceil
from time import perf_counter
from typing import Any

from service.errors import Overloaded, PayloadTooLarge
from service.imaging.memory import Drawing
from service.inference.arriving_bodies import ArrivingBodies
from service.inference.loop_time import LoopTime
from service.inference.memory_budget import MemoryBudget
from service.inference.room import Canvas, Room
from service.settings import Settings

YIELD_FROM_IMAGES = 8  # with this many images it pays to run one stage for all of them
KEPT_FOR_SINGLE_IMAGES = 4  # several batches leave one place in so many
DECAY = 0.98  # per answered image, of the earlier measurements


class Admission:
    """Admits requests to one worker as long as there is room for their images and bytes."""

    def __init__(self, settings: Settings) -> None:
        self.images = 0  # whose body is there
        self.batched_images = 0  # of these, in requests with several
        # Of a request with many images, those that run at once: only these delay others.
        self.active_images = 0
        self.max_images = settings.max_queue_size
        self.arriving: ArrivingBodies[Permit] = ArrivingBodies(self.max_images)
        self.memory = MemoryBudget(settings)
        self.loop_time = LoopTime()
        self._busy_seconds = 0.0
        self._completed = 0.0
        self._last_result = 0.0

    def admit(
        self, body_bytes: int, seconds_left: float, on_drop: Callable[[], object] | None = None
    ) -> "Permit":
        """Admit one image with a body of the announced size, none of which is there yet.

        `on_drop` is called if it arrives so slowly that others need its room.

        Raises:
            PayloadTooLarge: the body does not fit even into an idle server.
            Overloaded: there is no room now, or the wait would be longer than the deadline.
        """
        self.check_limits(1, body_bytes)  # first, because a retry can't help a body that never fits
        if overloaded := self.find_overload(seconds_left):
            raise overloaded
        permit = Permit(self, perf_counter() + seconds_left, on_drop)
        if oldest := self.arriving.add(permit):
            self.memory.free_body(oldest.body_bytes)
            oldest.drop()
        return permit

    def find_overload(self, seconds_left: float) -> Overloaded | None:
        """The reason why not even the smallest image can be admitted now; None if it can."""
        wait = self.predict_wait()
        if wait > seconds_left:
            return self.make_overloaded(
                f"The queue is too long: the wait would be about {wait:.1f} s, longer than the "
                "deadline"
            )
        return self.find_full_queue(1)

    def find_full_queue(self, images: int, *, are_batched: bool = False) -> Overloaded | None:
        """The reason why `images` more can't be admitted now; None if they can.

        `are_batched`: they are in one request, which has others. Such requests leave places for
        those with one image, but the first of them may take all.
        """
        is_full = self.images + images > self.max_images
        if are_batched and self.batched_images:
            kept = self.max_images // KEPT_FOR_SINGLE_IMAGES
            is_full = self.images + images > self.max_images - kept
        if is_full:
            return self.make_overloaded(
                f"The queue is full: this server holds at most {self.max_images} images at a time"
            )
        return None

    def check_limits(self, images: int, body_bytes: int) -> None:
        """Check that an idle server could take the request.

        Raises:
            PayloadTooLarge: it could not.
        """
        if images > self.max_images:
            raise PayloadTooLarge(
                f"The request has {images} images, but this server takes at most "
                f"{self.max_images} at a time. Send fewer images."
            )
        if body_bytes > self.memory.max_body_bytes:
            raise PayloadTooLarge(
                f"The request has {body_bytes} bytes, but this server takes at most "
                f"{self.memory.max_body_bytes} at a time. Send a smaller request."
            )

    def hold_body(self, size: int, permit: "Permit") -> None:
        """Hold bytes of a body. If they are not free, drop bodies that arrive slowly.

        Raises:
            Overloaded: there is no room now.
        """
        if self.memory.try_hold_body(size):
            return
        slow = self.arriving.find_slow(permit, self.memory.count_missing_body_bytes(size))
        if not self.memory.try_hold_body(size, instead_of=sum(body.body_bytes for body in slow)):
            raise self.make_overloaded(f"The server can't hold {size} more bytes now")
        for body in slow:
            body.drop()

    def make_dropped(self) -> Overloaded:
        """The error of a request whose body was dropped."""
        return self.make_overloaded(
            "The body arrived slowly while other requests needed its room. Send it faster"
        )

    def predict_wait(self) -> float:
        """Seconds until all active images are answered, at the recent pace."""
        return self.active_images * self._busy_seconds / self._completed if self._completed else 0.0

    async def yield_to_backlog(self) -> None:
        """Under load, let the other requests that are ready reach this stage first.

        Then one stage runs for all of them in a row, while its code and data are in the processor's
        caches. Without load this would only cost one more turn of the event loop.
        """
        if self.images >= YIELD_FROM_IMAGES:
            await asyncio.sleep(0)

    def make_overloaded(self, reason: str) -> Overloaded:
        """The error with its reason and the seconds after which to try again."""
        wait = max(1, ceil(self.predict_wait()))
        return Overloaded(f"{reason}. Try again in {wait} s.", wait)

    def check_response(self, size: int) -> None:
        """Check that unread responses leave room for one that no permit admitted.

        Raises:
            Overloaded: they do not.
        """
        unread = self.memory.response_bytes
        if unread and unread + size > self.memory.max_bytes // 4:
            raise self.make_overloaded(f"The server can't hold {size} more bytes of answers now")

    def record_results(self, count: int, since: float) -> None:
        """Update the pace: the time since the last answer, or `since` these images are active.

        So the time in which nobody asked does not count, even if slow images are active meanwhile.
        """
        now = perf_counter()
        decay = DECAY**count
        self._busy_seconds = self._busy_seconds * decay + (now - max(self._last_result, since))
        self._completed = self._completed * decay + count
        self._last_result = now


class Permit:
    """The images and bytes that one request holds; leaving the context frees them.

    The bytes stay until the last thread or batch that works on them has ended, even if nobody waits
    for it any more. `deadline` is when its answer must be there, by `perf_counter`.
    """

    def __init__(
        self, admission: Admission, deadline: float, on_drop: Callable[[], object] | None
    ) -> None:
        self._admission = admission
        self.deadline = deadline
        self.body_bytes = 0
        self._images = 0
        self._batched_images = 0
        self._active_images = 0
        self._body_received = False
        self._active_since = 0.0
        self._on_drop = on_drop
        self._users = 1  # of the bytes: the request, and what works on them
        self.is_dropped = False
        self.answered = False

    def add_images(self, count: int) -> None:
        """Hold `count` more images.

        Raises:
            PayloadTooLarge: they do not fit even into an idle server.
            Overloaded: there is no room now.
        """
        admission = self._admission
        admission.check_limits(self._images + count, self.body_bytes)
        are_batched = bool(self._images and count)
        if overloaded := admission.find_full_queue(count, are_batched=are_batched):
            raise overloaded
        admission.images += count
        self._images += count
        if are_batched:
            batched, self._batched_images = self._images - self._batched_images, self._images
            admission.batched_images += batched
        if self._body_received:
            self.limit_active_images(self._images)

    def add_body(self, size: int) -> None:
        """Hold `size` more bytes of the body.

        Raises:
            PayloadTooLarge: they do not fit even into an idle server.
            Overloaded: there is no room now.
        """
        admission = self._admission
        before = self.body_bytes
        admission.check_limits(self._images, before + size)
        admission.hold_body(size, self)
        self.body_bytes += size
        if not self._body_received:
            admission.arriving.note_progress(self, before)

    def add_answer(self, size: int) -> None:
        """Hold `size` bytes of the answer while it is put together. They count with the body.

        Raises:
            PayloadTooLarge: they do not fit even into an idle server.
            Overloaded: there is no room now.
        """
        most = self._admission.memory.max_body_bytes
        if self.body_bytes + size > most:
            raise PayloadTooLarge(
                f"The request and its answer need {self.body_bytes + size} bytes, but this server "
                f"has at most {most}. Ask for fewer images, labels or maps, or a smaller 'size'."
            )
        self.add_body(size)

    def mark_body_received(self) -> None:
        """Hold one image, because the whole body has arrived.

        Raises:
            Overloaded: other images have taken the queue meanwhile.
        """
        self._body_received = True
        self._active_since = perf_counter()
        self._end_arrival()
        self.add_images(1)

    def drop(self) -> None:
        """End the request, because its body arrives too slowly. Others have its bytes already."""
        self.body_bytes = 0
        self.is_dropped = True
        on_drop = self._on_drop
        self._end_arrival()
        if on_drop:
            on_drop()

    def limit_active_images(self, most: int) -> None:
        """Count at most this many images as active, because the others wait for these."""
        count = min(self._images, most)
        self._admission.active_images += count - self._active_images
        self._active_images = count

    def make_canvas(self, drawing: Drawing) -> Canvas:
        """Return the canvas of one image."""
        return Canvas(drawing, self.make_room(is_drawn=drawing.shown_size is not None))

    def make_room(self, is_drawn: bool = False) -> Room:
        """Return the room for the pixels of one image, which must be released.

        What uses it uses the bytes of this request as well.
        """
        self._users += 1
        return Room(self._admission.memory, is_drawn, self._leave_bytes)

    def hold_for(self, work: Future[Any]) -> None:
        """Keep the bytes until some work in a thread has ended."""
        self._users += 1
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave_bytes))

    def count_active(self, images: int) -> None:
        """Count more images as active, or fewer: others do not wait for one that waits itself."""
        self._admission.active_images += images
        self._active_images += images

    def release(self) -> None:
        """Free all images and bytes, and let the requests that wait have them."""
        admission = self._admission
        self._end_arrival()
        admission.active_images -= self._active_images
        if self.answered:
            admission.record_results(self._images, self._active_since)
        admission.images -= self._images
        admission.batched_images -= self._batched_images
        self._images = self._batched_images = self._active_images = 0
        self._leave_bytes()

    def _leave_bytes(self) -> None:
        """Free the bytes if nothing else uses them."""
        self._users -= 1
        if self._users == 0:
            size, self.body_bytes = self.body_bytes, 0
            self._admission.memory.free_body(size)

    def _end_arrival(self) -> None:
        self._admission.arriving.remove(self)
        self._on_drop = None

    def __enter__(self) -> "Permit":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
