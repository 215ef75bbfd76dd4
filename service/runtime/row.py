"""One image in the queue of a model, and the answer for it. Knows no queue and no engine."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """The outputs for one row, and when it was queued and run, by `perf_counter`."""

    logits: NDArray[np.float32]  # (K,)
    probabilities: NDArray[np.float32]  # (K,)
    cam: NDArray[np.float32]  # (T, h, w)
    queued_at: float
    started: float
    ended: float
    batch_size: int
    familiarity: np.float32 | None = None


class MaskAnswer(NamedTuple):
    """The same for a row of a model that segments."""

    mask: NDArray[np.uint8]  # (H, W), the class of each pixel
    probabilities: NDArray[np.float32]  # (K, H, W)
    cam: NDArray[np.float32]  # (T, h, w)
    queued_at: float
    started: float
    ended: float
    batch_size: int


AnyAnswer = Answer | MaskAnswer


@dataclass(eq=False)
class Row:
    """One image to run, and the class indices to explain (none: a prediction only).

    A model that segments takes each class with the region for which it is explained.
    """

    pixels: NDArray[np.uint8]  # (H, W, C)
    targets: Sequence[Any]  # of int or of RegionTarget
    is_traffic: bool = True  # whether its map counts in the mean maps of the traffic
    answer: asyncio.Future[AnyAnswer] = field(init=False)
    queued_at: float = field(init=False)
    is_in_batch: bool = field(init=False, default=False)  # its arrays are used until that has run
    on_end: Callable[[], None] | None = field(init=False, default=None)  # called when it has run
