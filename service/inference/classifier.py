"""One image through the model: bytes, pixels, queue, answer, picture. The flow every call shares.

Knows when to use a thread and what room the pixels take; knows nothing of HTTP.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.artifact.card import InputSpec
from service.errors import InternalError, NotReady, PayloadTooLarge
from service.imaging.decoding import Picture, decode_image, open_image
from service.imaging.geometry import Size
from service.imaging.memory import estimate_decode_bytes
from service.inference.admission import Admission
from service.machine import count_cores
from service.repository.repository import Model
from service.runtime.batcher import Answer, DeviceLost, Row
from service.settings import AUTO, Settings
from service.telemetry import metrics
from service.telemetry.timings import Interval, Timings

# A thread costs more than it brings for what is decoded in the time of a hop.
INLINE_BYTES = 4096
INLINE_PIXELS = 64 * 64

T = TypeVar("T")


class Classification(NamedTuple):
    """A picture and what the model answered for it."""

    picture: Picture
    answer: Answer


class Classifier:
    """Decodes in threads, queues, hands the answers back."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        threads = settings.decode_threads
        self._max_pixels = settings.max_image_pixels
        self._max_bytes = settings.max_upload_bytes
        self._admission = admission
        self._threads = ThreadPoolExecutor(
            count_cores() if threads == AUTO else int(threads), thread_name_prefix="pixels"
        )

    async def classify(
        self,
        content: bytes,
        model: Model,
        targets: Sequence[int],
        timings: Timings,
        choose_shown_size: Callable[[Size], Size] | None = None,
        is_traffic: bool = True,
    ) -> Classification:
        """Decode one image and run it with the class indices to explain.

        `choose_shown_size` asks for the picture itself, at the size that it chooses for the
        uploaded one; `is_traffic` is as for `run`.
        """
        came, must_wait = perf_counter(), model.batcher.slots.locked()
        async with model.batcher.slots:
            waited = [(came, perf_counter())] if must_wait else []
            picture = await self._decode(
                content, model.artifact.card.input, timings, choose_shown_size
            )
            answer = await self.run(picture.pixels, model, targets, timings, is_traffic, waited)
        return Classification(picture, answer)

    async def run(
        self,
        pixels: NDArray[np.uint8],
        model: Model,
        targets: Sequence[int],
        timings: Timings,
        is_traffic: bool = True,
        waited: Sequence[Interval] = (),
    ) -> Answer:
        """One row of the model's next batch; `pixels` (H, W, C) as the model takes them.

        It `counts` as a picture of the traffic, unless that is run twice or changed. While it
        `waited` for its place it was in the queue, too.

        Raises:
            Internal: the model failed on this very row.
            NotReady: the device failed, whatever the row.
        """
        try:
            answer = await model.batcher.submit(Row(pixels, targets, is_traffic))
        except DeviceLost:
            metrics.FAILED.labels(model.name).inc()
            raise NotReady("The device failed and is being set up anew: try again.") from None
        except Exception as fault:  # whatever the device threw
            metrics.FAILED.labels(model.name).inc()
            raise InternalError(
                "The model failed on this image; the log has the reason."
            ) from fault
        timings.note("queue", *waited, (answer.queued_at, answer.started))
        timings.note("inference", (answer.started, answer.ended), batch_size=answer.batch_size)
        return answer

    async def render(self, draw: Callable[[], T], pixels: int, timings: Timings) -> T:
        """Draw so many `pixels`, in a thread if they are many."""
        await self._admission.yield_to_backlog()
        started = perf_counter()
        if pixels <= INLINE_PIXELS:
            drawn = draw()
        else:
            drawn = await asyncio.get_running_loop().run_in_executor(self._threads, draw)
        timings.note("render", (started, perf_counter()))
        return drawn

    async def _decode(
        self,
        content: bytes,
        spec: InputSpec,
        timings: Timings,
        choose_shown_size: Callable[[Size], Size] | None,
    ) -> Picture:
        if len(content) > self._max_bytes:
            raise PayloadTooLarge(
                f"The image has {len(content)} bytes; at most {self._max_bytes} are accepted."
            )
        await self._admission.yield_to_backlog()
        loop = asyncio.get_running_loop()
        started = perf_counter()
        inline = len(content) <= INLINE_BYTES
        if inline:
            image = open_image(content, self._max_pixels)
        else:
            image = await loop.run_in_executor(self._threads, open_image, content, self._max_pixels)
        pixels = image.width * image.height
        if choose_shown_size:
            pixels += prod(choose_shown_size(image.size))  # as many however it is turned
        if inline and pixels <= INLINE_PIXELS:
            picture = decode_image(image, spec, choose_shown_size)
        else:
            picture = await self._decode_in_thread(image, spec, choose_shown_size)
        timings.note("decode", (started, perf_counter()))
        return picture

    async def _decode_in_thread(
        self,
        image: Image.Image,
        spec: InputSpec,
        choose_shown_size: Callable[[Size], Size] | None,
    ) -> Picture:
        """The room is given back when the thread has ended, though nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        size = estimate_decode_bytes(image, spec, choose_shown_size)
        await self._admission.reserve_pixels(size)
        decoding = self._threads.submit(decode_image, image, spec, choose_shown_size)
        decoding.add_done_callback(
            lambda _: loop.call_soon_threadsafe(self._admission.free_pixels, size)
        )
        try:
            return await asyncio.wrap_future(decoding)
        finally:
            del decoding  # it holds the fault that holds this frame: see `Door`
