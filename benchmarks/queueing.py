"""What the queue itself costs a row, submitted, batched and answered by a model that does nothing.

Microseconds of CPU, on the event loop that the service runs on; the run is handed to a thread, or
not, as for models that take long and that don't.
"""

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.samples import Sample
from service.runtime.batcher import BatchCallbacks, Batcher, Row
from service.runtime.engine import Outputs
from service.runtime.policy import BatchPolicy

BATCH = 8  # the default on a CPU
CLASSES = 10
CASE = "queue"


def measure_queue(clients: int, seconds: float) -> Iterator[Sample]:
    """So many clients, each with one row at a time."""
    for who, brief in (("in a thread", False), ("on the loop", True)):
        spent = uvloop.run(spend(clients, seconds, brief))
        yield Sample(CASE, who, clients, {"us": spent * 1e6})


async def spend(clients: int, seconds: float, brief: bool) -> float:
    """Seconds of CPU a row."""
    sizes = list[int]()
    policy = BatchPolicy(BATCH, run_inline=brief)
    batcher = Batcher(answer_nothing, policy, BatchCallbacks(sizes.append))
    pixels = np.zeros((28, 28, 1), np.uint8)
    rows = 0
    ends = time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal rows
        while time.perf_counter() < ends:
            await batcher.submit(Row(pixels, ()))
            rows += 1

    started = time.process_time()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return (time.process_time() - started) / rows


def answer_nothing(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
    """Outputs of the right shapes."""
    scores = np.zeros((len(image), CLASSES), np.float32)
    return Outputs(scores, scores, np.zeros((*target.shape, 7, 7), np.float32))
