"""What is shown of a graph's `cam`: the map of 0..1 at the picture's size, or that nothing speaks.

The service draws maps by the same definition. Pure arrays: knows nothing of networks or files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EMPTY_BELOW = 1e-4  # range of the positive part over the peak of |cam|

Map = NDArray[Any]


def is_empty(cam: Map) -> bool:
    """Whether no evidence is for the target: no range in the positive part of `cam` (h, w)."""
    return bool(np.ptp(np.maximum(cam, 0)) <= EMPTY_BELOW * np.abs(cam).max())


def shown(cam: Map, size: tuple[int, int]) -> Map:
    """`cam` (h, w) as evidence for the target, (H, W) in 0..1; all 0 if it is empty."""
    return np.zeros(size) if is_empty(cam) else place(np.maximum(cam, 0), size)


def signed(cam: Map, size: tuple[int, int]) -> Map:
    """`cam` (h, w) over its peak, (H, W) in -1..1: evidence for and against."""
    return resized(cam / max(float(np.abs(cam).max()), 1e-12), size)


def place(cam: Map, size: tuple[int, int]) -> Map:
    """A map of positive values in 0..1 at the input's size: scaled, resized, scaled again."""
    return scaled(resized(scaled(cam), size))


def scaled(values: Map) -> Map:
    """Min-max to 0..1."""
    values = values - values.min()
    return np.asarray(values / (values.max() + 1e-7))


def resized(values: Map, size: tuple[int, int]) -> Map:
    """Bilinear, half-pixel centres."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
