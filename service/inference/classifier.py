"""Takes one image through the model: decoding, the queue, the answer, drawing.

All calls share this flow. It knows nothing about HTTP, nor where pixels are made.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import RegionTarget
from service.errors import InternalError, NotReady
from service.imaging.decoding import Picture
from service.inference.admission import Admission, Permit
from service.inference.decoder import INLINE_PIXELS, Decoder, Upload
from service.inference.room import Canvas, Place, Room
from service.repository.model import Model
from service.runtime.batcher import DeviceLost
from service.runtime.row import Answer, AnyAnswer, MaskAnswer, Row
from service.settings import Settings
from service.telemetry import metrics
from service.telemetry.timings import Interval, Timings

T = TypeVar("T")
A = TypeVar("A", Answer, MaskAnswer)


class Classification(NamedTuple, Generic[A]):
    """A picture and the model's answer for it."""

    picture: Picture
    answer: A


# A model that segments is asked for regions, which depend on the size of the picture.
ChooseRegions = Callable[[Picture], Sequence[RegionTarget]]


class Classifier:
    """Decodes images, queues them for the model and returns the answers."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self.decoder = Decoder(settings, admission.memory)
        self._admission = admission

    @overload
    async def classify(
        self,
        content: bytes,
        model: Model,
        targets: Sequence[int],
        timings: Timings,
        permit: Permit,
        canvas: Canvas | None = None,
        is_traffic: bool = True,
    ) -> Classification[Answer]: ...

    @overload
    async def classify(
        self,
        content: bytes,
        model: Model,
        targets: ChooseRegions,
        timings: Timings,
        permit: Permit,
        canvas: Canvas | None = None,
        is_traffic: bool = True,
    ) -> Classification[MaskAnswer]: ...

    async def classify(
        self,
        content: bytes,
        model: Model,
        targets: Sequence[int] | ChooseRegions,
        timings: Timings,
        permit: Permit,
        canvas: Canvas | None = None,
        is_traffic: bool = True,
    ) -> Any:
        """Decode one image and run the model on it; `targets` are the class indices to explain.

        For a model that segments, `targets` chooses them with their regions. With `canvas` the
        picture itself is kept as well, to draw on. `is_traffic` is as in `run`.
        """
        slots = model.batcher.slots
        arrived, must_wait = perf_counter(), slots.locked()
        room = canvas.room if canvas else permit.make_room()
        try:
            async with Place(slots, permit.count_active) as place:
                waited = [(arrived, perf_counter())] if must_wait else []
                upload = Upload(content, model.artifact.card.input, canvas)
                await self._admission.yield_to_backlog()
                await self._admission.loop_time.take()  # a tiny picture is decoded on the loop
                started = perf_counter()
                picture = await self.decoder.decode(upload, place, room)
                timings.note("decode", (started, perf_counter()))
                chosen = targets(picture) if callable(targets) else targets
                answer = await self.run(
                    picture.pixels, model, chosen, timings, room, is_traffic, waited
                )
        finally:
            if not canvas:
                room.release()
        return Classification(picture, answer)

    async def run(
        self,
        pixels: NDArray[np.uint8],
        model: Model,
        targets: Sequence[int] | Sequence[RegionTarget],
        timings: Timings,
        room: Room,
        is_traffic: bool = True,
        waited: Sequence[Interval] = (),
    ) -> AnyAnswer:
        """Put one row into the model's next batch; `pixels` is the model's input, (H, W, C).

        Their `room` is held until the batch has run, even if nobody waits for it any more.
        `is_traffic` is False for a picture that runs a second time or was changed, so that the mean
        maps count each picture once. The intervals in `waited` count as time in the queue.

        Raises:
            InternalError: the model failed on this row.
            NotReady: the device failed; the row is not the reason.
        """
        row = Row(pixels, targets, is_traffic)
        try:
            answer = await model.batcher.submit(row)
        except asyncio.CancelledError:
            if model.batcher.discard(row):
                room.share()
                row.on_end = room.release
            raise
        except DeviceLost:
            metrics.FAILED.labels(model.name).inc()
            raise NotReady("The device failed and is being restarted. Try again.") from None
        except Exception as exc:  # whatever the device raised
            metrics.FAILED.labels(model.name).inc()
            raise InternalError(
                "The model failed on this image. The server's log gives the reason."
            ) from exc
        await self._admission.loop_time.take()  # a large batch is answered in one turn of the loop
        timings.note("queue", *waited, (answer.queued_at, answer.started))
        timings.note("inference", (answer.started, answer.ended), batch_size=answer.batch_size)
        return answer

    async def render(
        self, draw: Callable[[], T], pixels: int, timings: Timings, canvas: Canvas
    ) -> T:
        """Call `draw`, which draws `pixels` pixels, in a thread if they are many."""
        await self._admission.yield_to_backlog()
        await self._admission.loop_time.take()
        started = perf_counter()
        if pixels <= INLINE_PIXELS:
            result = draw()
        else:
            result = await self.decoder.run_in_thread(draw, canvas.room)
        timings.note("render", (started, perf_counter()))
        return result
