"""What is shown of a graph's `cam`: the map of 0..1 at the picture's size, or that nothing speaks.

The service draws maps by the same definition. Pure arrays: knows nothing of networks or files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EMPTY_MAP_RATIO = 1e-4  # range of the positive part over the peak of |cam|

FloatArray = NDArray[Any]


def is_empty_map(cam: FloatArray) -> bool:
    """Whether no evidence is for the target: no range in the positive part of `cam` (h, w)."""
    return bool(np.ptp(np.maximum(cam, 0)) <= EMPTY_MAP_RATIO * np.abs(cam).max())


def render_heatmap(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """`cam` (h, w) as evidence for the target, (H, W) in 0..1; all 0 if it is empty."""
    return np.zeros(size) if is_empty_map(cam) else resize_and_normalize(np.maximum(cam, 0), size)


def render_signed_heatmap(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """`cam` (h, w) over its peak, (H, W) in -1..1: evidence for and against."""
    return resize_map(cam / max(float(np.abs(cam).max()), 1e-12), size)


def resize_and_normalize(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """A map of positive values in 0..1 at the input's size: scaled, resized, scaled again."""
    return normalize(resize_map(normalize(cam), size))


def normalize(values: FloatArray) -> FloatArray:
    """Min-max to 0..1."""
    values = values - values.min()
    return np.asarray(values / (values.max() + 1e-7))


def resize_map(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bilinear, half-pixel centres."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
