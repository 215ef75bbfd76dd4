"""Measures the cost of the queue for one row, with a model that does nothing.

The unit is microseconds of CPU on the service's event loop. The model runs in a thread, as slow
models do, or on the event loop, as fast models do.
"""

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.samples import Sample
from service.runtime.batcher import BatchCallbacks, Batcher
from service.runtime.engine import Outputs
from service.runtime.policy import BatchPolicy
from service.runtime.row import Row

BATCH = 8  # the default on a CPU
CLASSES = 10
CASE = "queue"


def measure_queue(clients: int, seconds: float) -> Iterator[Sample]:
    """Measure `clients` clients, each with one row at a time."""
    for who, run_inline in (("in a thread", False), ("on the loop", True)):
        spent = uvloop.run(measure_cpu(clients, seconds, run_inline))
        yield Sample(CASE, who, clients, {"us": spent * 1e6})


async def measure_cpu(clients: int, seconds: float, run_inline: bool) -> float:
    """Seconds of CPU per row."""
    sizes = list[int]()
    policy = BatchPolicy(BATCH, run_inline=run_inline)
    batcher = Batcher(answer_nothing, policy, BatchCallbacks(sizes.append))
    pixels = np.zeros((28, 28, 1), np.uint8)
    rows = 0
    ends = time.perf_counter() + seconds

    async def submit_rows() -> None:
        nonlocal rows
        while time.perf_counter() < ends:
            await batcher.submit(Row(pixels, ()))
            rows += 1

    started = time.process_time()
    await asyncio.gather(*(submit_rows() for _ in range(clients)))
    return (time.process_time() - started) / rows


def answer_nothing(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
    """Outputs of the right shapes."""
    scores = np.zeros((len(image), CLASSES), np.float32)
    return Outputs(scores, scores, np.zeros((*target.shape, 7, 7), np.float32))
