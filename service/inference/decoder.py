"""Decides where an image is decoded: on the event loop, in a thread or in a process.

A tiny plain image is decoded on the event loop, an ordinary one in a thread. An image whose cost
can't be known, or is high, goes to a process that may be killed. The memory of its pixels is
reserved before. It knows nothing about models and HTTP.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil, prod
from typing import NamedTuple, TypeVar

from PIL import Image

from service.artifact.card import InputSpec
from service.errors import InvalidImage, PayloadTooLarge
from service.imaging.decoding import Picture, decode_image, open_image
from service.imaging.geometry import ShownSize
from service.imaging.memory import (
    count_input_bytes,
    estimate_decode_bytes,
    estimate_drawing_bytes,
    may_hide_memory,
)
from service.imaging.structure import count_passes, is_tiny_plain
from service.inference.decoder_pool import DecoderPool
from service.inference.decoder_process import SPARE_BYTES, Job, NeedsMore, open_any_image
from service.inference.long_turns import LongTurn, LongTurns
from service.inference.memory_budget import MemoryBudget
from service.inference.room import Canvas, Place, Room
from service.machine import count_cores
from service.settings import AUTO, Settings

# Smaller images are decoded in less time than a switch to another thread takes.
INLINE_PIXELS = 64 * 64
INLINE_INPUT_PIXELS = 256 * 256  # of the model's input: making a larger one takes that long, too
# Larger images go to a process, so that threads are never busy for long: about 0.2 s.
THREAD_PIXELS = {"JPEG": 24_000_000, "MPO": 24_000_000, "PNG": 6_000_000, "WEBP": 4_000_000}
# Pillow prepares to resize a longer side without letting other threads run, 0.1 s per 3 million.
THREAD_SIDE = 65_535
MAX_LONG_JOBS = 4  # that run in processes at a time
FIRST_BYTES = 4 << 20  # reserved for an image before its header is read

T = TypeVar("T")


class Upload(NamedTuple):
    """One image, the model's input to make from it, and where to draw it."""

    content: bytes
    spec: InputSpec
    canvas: Canvas | None

    @property
    def shown_size(self) -> ShownSize | None:
        """How the size is chosen in which the picture itself is kept; None if it is not."""
        return self.canvas.drawing.shown_size if self.canvas else None

    def estimate_bytes(self, image: Image.Image) -> "Need":
        """Return what the image needs, which `open_image` opened.

        Raises:
            InvalidImage: the header has a value of a wrong type.
        """
        size = estimate_decode_bytes(image, self.spec, self.shown_size)
        kept = count_input_bytes(self.spec)
        if self.canvas:
            kept += estimate_drawing_bytes(image, self.canvas.drawing)
        return Need(max(size, kept), kept)


class Need(NamedTuple):
    """The bytes that a picture needs at most, and those that it needs once it is decoded."""

    most: int
    kept: int


class Opened(NamedTuple):
    """An image whose header was read, and the picture if it was decoded at once."""

    image: Image.Image
    picture: Picture | None
    need: Need


class Decoder:
    """Decodes images, and runs other work on pixels in the same threads."""

    def __init__(self, settings: Settings, memory: MemoryBudget) -> None:
        threads = settings.decode_threads
        self._thread_count = count_cores() if threads == AUTO else int(threads)
        self._threads = ThreadPoolExecutor(self._thread_count, thread_name_prefix="pixels")
        self._overdue_threads = 0
        most_long = min(self._thread_count, MAX_LONG_JOBS)
        self._long_turns = LongTurns(most_long)
        self._pool = DecoderPool(most_long + 1)
        self.memory = memory
        self._max_pixels = settings.max_image_pixels
        self._max_bytes = settings.max_upload_bytes
        self._cpu_seconds = ceil(settings.request_timeout_ms / 1000)

    def start_processes(self) -> None:
        """Start the processes, preferably while this process has only one thread."""
        self._pool.start()

    def reasons_not_ready(self) -> list[str]:
        """Return why no image can be decoded now; empty if one can."""
        if self._overdue_threads < self._thread_count:
            return []
        return ["All threads are busy with images whose deadline is over."]

    async def decode(self, upload: Upload, place: Place, room: Room) -> Picture:
        """Decode an image. If it must wait for room, it leaves its place meanwhile.

        Afterwards the room has the model's input, and what drawing needs.

        Raises:
            UnsupportedMediaType, InvalidImage, ImageTooLarge: as `open_image` and `decode_image`.
            PayloadTooLarge: the file has too many bytes, or its pixels need too many.
            NotReady: no process can be started.
        """
        content, spec, canvas = upload
        check_size(len(content), self._max_bytes)
        opened: Opened | None
        if is_tiny_plain(content):
            image = open_image(content, self._max_pixels)
            pixels = image.width * image.height
            if canvas and canvas.drawing.shown_size:
                pixels += prod(canvas.drawing.shown_size(image.size))
            is_small = pixels <= INLINE_PIXELS and spec.width * spec.height <= INLINE_INPUT_PIXELS
            # What is kept besides must be reserved, which may have to wait.
            if is_small and not (canvas and canvas.drawing.kept_bytes):
                return decode_image(image, spec, upload.shown_size)
            opened = Opened(image, None, upload.estimate_bytes(image))
        else:
            opened = await self._open(upload, room)
        picture = await self._decode_in_room(upload, opened, room, place)
        if not canvas:
            room.shrink(count_input_bytes(spec))
        elif not (canvas.drawing.shown_size or canvas.drawing.mask_size):
            room.shrink(count_input_bytes(spec) + canvas.drawing.kept_bytes)
        return picture

    async def run_in_thread(self, function: Callable[[], T], room: Room | None) -> T:
        """Call a function in a thread."""
        return await self._wait(self._threads.submit(function), room, self._count_overdue)

    async def _open(self, upload: Upload, room: Room) -> Opened | None:
        """Read the header of an image; None if its cost can't be known or is high.

        An image that needs little is decoded as well, since a second way into a thread would take
        longer by a twentieth.
        """
        free = min(FIRST_BYTES, self.memory.max_pixel_bytes)
        if not room.try_reserve(free):
            free = 0
        opening = partial(open_plain_image, upload, self._max_pixels, free)
        return await self.run_in_thread(opening, room)

    async def _decode_in_room(
        self, upload: Upload, opened: Opened | None, room: Room, place: Place
    ) -> Picture:
        if opened is None and self._pool.is_started:
            with LongTurn(self._long_turns) as turn:
                return await self._decode_in_process(upload, room, place, turn)
        if opened is None:
            opening = partial(open_any_image, upload.content, self._max_pixels)
            image = await self.run_in_thread(opening, room)
            opened = Opened(image, None, upload.estimate_bytes(image))
        picture = opened.picture
        if picture is None:
            await self._reserve(room, opened.need.most, place)
            decoding = partial(decode_image, opened.image, upload.spec, upload.shown_size)
            picture = await self.run_in_thread(decoding, room)
        room.shrink(opened.need.kept)
        return picture

    async def _decode_in_process(
        self, upload: Upload, room: Room, place: Place, turn: LongTurn
    ) -> Picture:
        content, spec, canvas = upload
        most = self.memory.max_pixel_bytes
        needed = min(FIRST_BYTES + 2 * len(content), most)
        drawing = canvas.drawing if canvas else None
        while True:
            # What the process may take beyond its need counts, too. A picture that needs nearly all
            # room must still find some.
            await self._reserve(room, max(needed, min(needed + SPARE_BYTES, most)), place)
            job = Job(content, spec, drawing, self._max_pixels, needed, self._cpu_seconds)
            result = await self._run_job(job, room, turn)
            if result is None:
                room.shrink(0)
                place.leave()
                await turn.take()
                await place.enter()
                continue
            room.shrink(needed)
            if isinstance(result, Picture):
                return result
            needed = result.size

    async def _run_job(self, job: Job, room: Room, turn: LongTurn) -> Picture | NeedsMore | None:
        """Have a process do a job, and stop it if we are cancelled.

        Return None if it was stopped because it takes long and has no turn.
        """
        running, decoding = self._pool.submit(job)
        stop = partial(self._pool.stop, decoding)
        watch = turn.watch(decoding.measure_cpu_seconds, stop)
        try:
            return await self._wait(running, room, lambda _: stop())
        except InvalidImage:
            if watch and watch.is_stopped:
                return None
            raise
        finally:
            if watch:
                watch.end()
            del running  # as in `_wait`

    async def _reserve(self, room: Room, size: int, place: Place) -> None:
        if not room.try_reserve(size):
            place.leave()
            await room.reserve(size)
            await place.enter()

    async def _wait(
        self, running: "Future[T]", room: Room | None, on_cancel: Callable[["Future[T]"], None]
    ) -> T:
        """Wait for work. The room is held until the work ends, even if we are cancelled."""
        if room:
            room.share()
            loop = asyncio.get_running_loop()
            running.add_done_callback(lambda _: loop.call_soon_threadsafe(room.release))
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if not running.cancel():
                on_cancel(running)
            raise
        finally:
            del running  # it holds the exception whose traceback holds this frame

    def _count_overdue(self, running: "Future[T]") -> None:
        """Count a thread as overdue until its work ends."""
        loop = asyncio.get_running_loop()
        self._overdue_threads += 1
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end_overdue))

    def _end_overdue(self) -> None:
        self._overdue_threads -= 1


def check_size(size: int, most: int) -> None:
    """Check the bytes of an encoded image.

    Raises:
        PayloadTooLarge: it has more than `most`.
    """
    if size > most:
        raise PayloadTooLarge(
            f"The image has {size} bytes, but at most {most} are accepted. Send a smaller image."
        )


def open_plain_image(upload: Upload, max_pixels: int, free: int) -> Opened | None:
    """Read the header of an image; None if its cost can't be known or is high.

    An image that needs at most `free` bytes is decoded as well.

    Raises:
        UnsupportedMediaType, InvalidImage, ImageTooLarge: as `open_image` and `decode_image`.
    """
    passes = count_passes(upload.content)
    if passes is None:
        return None
    image = open_image(upload.content, max_pixels)
    cost = passes * image.width * image.height
    is_plain = cost <= THREAD_PIXELS.get(image.format or "", 0) and max(image.size) <= THREAD_SIDE
    if not is_plain or may_hide_memory(image):
        return None
    need = upload.estimate_bytes(image)
    if need.most > free:
        return Opened(image, None, need)
    return Opened(image, decode_image(image, upload.spec, upload.shown_size), need)
