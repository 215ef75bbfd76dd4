"""From a graph's raw map `cam` to a heatmap of 0..1 at the picture's size.

The service uses the same definition. Knows nothing of networks or files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EMPTY_MAP_RATIO = (
    1e-4  # a map is empty if the range of its positive part is at most this share of max |cam|
)

FloatArray = NDArray[Any]


def is_empty_map(cam: FloatArray) -> bool:
    """Whether `cam` (h, w) shows no evidence for the class: its positive part is constant."""
    return bool(np.ptp(np.maximum(cam, 0)) <= EMPTY_MAP_RATIO * np.abs(cam).max())


def render_heatmap(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """The evidence for the class in `cam` (h, w), as (H, W) in 0..1; all 0 if the map is empty."""
    return np.zeros(size) if is_empty_map(cam) else resize_and_normalize(np.maximum(cam, 0), size)


def render_signed_heatmap(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """The evidence for and against the class: `cam` (h, w) over max |cam|, as (H, W) in -1..1."""
    return resize_map(cam / max(float(np.abs(cam).max()), 1e-12), size)


def resize_and_normalize(cam: FloatArray, size: tuple[int, int]) -> FloatArray:
    """A map of non-negative values, normalised, resized to (H, W) and normalised again."""
    return normalize(resize_map(normalize(cam), size))


def normalize(values: FloatArray) -> FloatArray:
    """Scale linearly to 0..1."""
    values = values - values.min()
    return np.asarray(values / (values.max() + 1e-7))


def resize_map(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Resize bilinearly, with half-pixel centres."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
