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

from service.artifact.card import Input
from service.errors import Internal, NotReady, PayloadTooLarge
from service.imaging.decoding import Picture, decode_image, open_image
from service.imaging.geometry import Size
from service.imaging.memory import count_bytes
from service.inference.admission import Admission
from service.machine import count_cores
from service.repository.repository import Model
from service.runtime.batcher import Answer, DeviceLost, Row
from service.settings import AUTO, Settings
from service.telemetry import metrics
from service.telemetry.timings import Part, Timings

# A thread costs more than it brings for what is decoded in the time of a hop.
INLINE_BYTES = 4096
INLINE_PIXELS = 64 * 64

T = TypeVar("T")


class Seen(NamedTuple):
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
        fit_shown: Callable[[Size], Size] | None = None,
        counts: bool = True,
    ) -> Seen:
        """Decode one image and run it with the class indices to explain.

        `fit_shown` asks for the picture itself, at the size it makes of the uploaded one; `counts`
        is as for `run`.
        """
        came, must_wait = perf_counter(), model.batcher.places.locked()
        async with model.batcher.places:
            waited = [(came, perf_counter())] if must_wait else []
            picture = await self._decode(content, model.artefact.card.input, timings, fit_shown)
            answer = await self.run(picture.pixels, model, targets, timings, counts, waited)
        return Seen(picture, answer)

    async def run(
        self,
        pixels: NDArray[np.uint8],
        model: Model,
        targets: Sequence[int],
        timings: Timings,
        counts: bool = True,
        waited: Sequence[Part] = (),
    ) -> Answer:
        """One row of the model's next batch; `pixels` (H, W, C) as the model takes them.

        It `counts` as a picture of the traffic, unless that is run twice or changed. While it
        `waited` for its place it was in the queue, too.

        Raises:
            Internal: the model failed on this very row.
            NotReady: the device failed, whatever the row.
        """
        try:
            answer = await model.batcher.submit(Row(pixels, targets, counts))
        except DeviceLost:
            metrics.FAILED.labels(model.name).inc()
            raise NotReady("The device failed and is being set up anew: try again.") from None
        except Exception as fault:  # whatever the device threw
            metrics.FAILED.labels(model.name).inc()
            raise Internal("The model failed on this image; the log has the reason.") from fault
        timings.note("queue", *waited, (answer.queued_at, answer.started))
        timings.note("inference", (answer.started, answer.ended), batch_size=answer.batch_size)
        return answer

    async def render(self, draw: Callable[[], T], pixels: int, timings: Timings) -> T:
        """Draw so many `pixels`, in a thread if they are many."""
        await self._admission.catch_up()
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
        wanted: Input,
        timings: Timings,
        fit_shown: Callable[[Size], Size] | None,
    ) -> Picture:
        if len(content) > self._max_bytes:
            raise PayloadTooLarge(
                f"The image has {len(content)} bytes; at most {self._max_bytes} are accepted."
            )
        await self._admission.catch_up()
        loop = asyncio.get_running_loop()
        started = perf_counter()
        inline = len(content) <= INLINE_BYTES
        if inline:
            image = open_image(content, self._max_pixels)
        else:
            image = await loop.run_in_executor(self._threads, open_image, content, self._max_pixels)
        pixels = image.width * image.height
        if fit_shown:
            pixels += prod(fit_shown(image.size))  # as many however it is turned
        if inline and pixels <= INLINE_PIXELS:
            picture = decode_image(image, wanted, fit_shown)
        else:
            picture = await self._decode_in_thread(image, wanted, fit_shown)
        timings.note("decode", (started, perf_counter()))
        return picture

    async def _decode_in_thread(
        self,
        image: Image.Image,
        wanted: Input,
        fit_shown: Callable[[Size], Size] | None,
    ) -> Picture:
        """The room is given back when the thread has ended, though nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        size = count_bytes(image, wanted, fit_shown)
        await self._admission.reserve_pixels(size)
        decoding = self._threads.submit(decode_image, image, wanted, fit_shown)
        decoding.add_done_callback(
            lambda _: loop.call_soon_threadsafe(self._admission.free_pixels, size)
        )
        try:
            return await asyncio.wrap_future(decoding)
        finally:
            del decoding  # it holds the fault that holds this frame: see `Door`
