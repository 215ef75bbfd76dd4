"""What a cancelled request held is free once the batch that uses it has run, and not sooner."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.runtime.batcher import BatchCallbacks, Batcher
from service.runtime.engine import Outputs
from service.runtime.policy import BatchPolicy
from service.settings import Settings
from service.telemetry.timings import Timings

BODY_BYTES, PIXEL_BYTES = 5000, 7000
PIXELS = np.zeros((2, 2, 3), np.uint8)


def test_body_and_pixels_of_a_cancelled_request_count_until_its_batch_has_run() -> None:
    started, end = threading.Event(), threading.Event()

    def run(image: NDArray[np.uint8], _: NDArray[np.int64]) -> Outputs:
        started.set()
        end.wait(10)
        scores = np.zeros((len(image), 1), np.float32)
        return Outputs(scores, scores, np.zeros((len(image), 0, 1, 1), np.float32))

    async def body() -> None:
        settings = Settings.model_validate({})
        admission = Admission(settings)
        memory, classifier = admission.memory, Classifier(settings, admission)
        batcher = Batcher(run, BatchPolicy(2, 0), BatchCallbacks(lambda _: None))
        model: Any = SimpleNamespace(name="held", batcher=batcher)

        async def classify() -> None:
            with admission.admit(BODY_BYTES, 60) as permit:
                permit.add_body(BODY_BYTES)
                permit.mark_body_received()
                with permit.make_room() as room:
                    await room.reserve(PIXEL_BYTES)
                    await classifier.run(PIXELS, model, (), Timings(), room)

        running = asyncio.create_task(classify())
        await asyncio.to_thread(started.wait, 10)
        waiting = asyncio.create_task(classify())
        await asyncio.sleep(0.01)
        assert memory.bytes == 2 * (BODY_BYTES + PIXEL_BYTES)

        for task in (waiting, running):
            task.cancel()
            await asyncio.wait({task})
        assert admission.images == 0
        assert memory.bytes == BODY_BYTES + PIXEL_BYTES  # of the one that runs

        end.set()
        async with asyncio.timeout(10):
            while memory.bytes:
                await asyncio.sleep(0.001)
        assert memory.body_bytes == 0

    asyncio.run(body())
