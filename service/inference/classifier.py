"""Takes one image through the model: decoding, the queue, the answer, drawing.

All calls share this flow. It decides what runs in a thread and reserves memory for the pixels. It
knows nothing about HTTP.
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

# Smaller images are decoded in less time than a switch to another thread takes.
INLINE_BYTES = 4096
INLINE_PIXELS = 64 * 64

T = TypeVar("T")


class Classification(NamedTuple):
    """A picture and the model's answer for it."""

    picture: Picture
    answer: Answer


class Classifier:
    """Decodes images in threads, queues them for the model and returns the answers."""

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
        """Decode one image and run the model on it; `targets` are the class indices to explain.

        With `choose_shown_size` the picture itself is kept as well, in the size that the function
        returns for the uploaded size. `is_traffic` is as in `run`.
        """
        arrived, must_wait = perf_counter(), model.batcher.slots.locked()
        async with model.batcher.slots:
            waited = [(arrived, perf_counter())] if must_wait else []
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
        """Put one row into the model's next batch; `pixels` is the model's input, (H, W, C).

        `is_traffic` is False for a picture that runs a second time or was changed, so that the mean
        maps count each picture once. The intervals in `waited` count as time in the queue.

        Raises:
            InternalError: the model failed on this row.
            NotReady: the device failed; the row is not the reason.
        """
        try:
            answer = await model.batcher.submit(Row(pixels, targets, is_traffic))
        except DeviceLost:
            metrics.FAILED.labels(model.name).inc()
            raise NotReady("The device failed and is being restarted. Try again.") from None
        except Exception as exc:  # whatever the device raised
            metrics.FAILED.labels(model.name).inc()
            raise InternalError(
                "The model failed on this image. The server's log gives the reason."
            ) from exc
        timings.note("queue", *waited, (answer.queued_at, answer.started))
        timings.note("inference", (answer.started, answer.ended), batch_size=answer.batch_size)
        return answer

    async def render(self, draw: Callable[[], T], pixels: int, timings: Timings) -> T:
        """Call `draw`, which draws `pixels` pixels, in a thread if they are many."""
        await self._admission.yield_to_backlog()
        started = perf_counter()
        if pixels <= INLINE_PIXELS:
            result = draw()
        else:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, draw)
        timings.note("render", (started, perf_counter()))
        return result

    async def _decode(
        self,
        content: bytes,
        spec: InputSpec,
        timings: Timings,
        choose_shown_size: Callable[[Size], Size] | None,
    ) -> Picture:
        if len(content) > self._max_bytes:
            raise PayloadTooLarge(
                f"The image has {len(content)} bytes, but at most {self._max_bytes} are accepted. "
                "Send a smaller image."
            )
        await self._admission.yield_to_backlog()
        loop = asyncio.get_running_loop()
        started = perf_counter()
        is_small = len(content) <= INLINE_BYTES
        if is_small:
            image = open_image(content, self._max_pixels)
        else:
            image = await loop.run_in_executor(self._threads, open_image, content, self._max_pixels)
        pixels = image.width * image.height
        if choose_shown_size:
            pixels += prod(choose_shown_size(image.size))  # turning it does not change the number
        if is_small and pixels <= INLINE_PIXELS:
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
        """Decode in a thread. Its memory stays reserved until it ends, even if we are cancelled."""
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
            del decoding  # it holds the exception whose traceback holds this frame
