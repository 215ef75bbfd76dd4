"""Turns a graph's `cam` into a map of 0..1, and finds whether it is empty and where it points.

`cam` is the signed Grad-CAM sum at the resolution of the target layer (Selvaraju et al. 2017,
eq. 1-2). Scaling follows pytorch-grad-cam. This module works on arrays only; it knows nothing about
files, colours or HTTP.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.imaging.geometry import Box

EPS = 1e-7
EMPTY_BELOW = 1e-4  # range of the positive part, divided by the peak of |cam|

Map = NDArray[np.float32]


def is_empty(cam: Map) -> bool:
    """Whether no evidence is for the target: the positive part of `cam` (h, w) has no range."""
    positive = np.maximum(cam, 0)
    return bool(np.ptp(positive) <= EMPTY_BELOW * np.abs(cam).max())


def normalize_cam(cam: Map, height: int, width: int) -> Map:
    """`cam` (h, w) as evidence for the target, (height, width) in 0..1; all 0 if it is empty.

    The steps are ReLU, min-max, bilinear resize and min-max. Without the second min-max, a small
    map would have a peak below 1 once it is enlarged.
    """
    if is_empty(cam):
        return np.zeros((height, width), np.float32)
    scaled = _scale(np.maximum(cam, 0))
    return _scale(_resize(scaled, height, width))


def normalize_signed_cam(cam: Map, height: int, width: int) -> Map:
    """`cam` (h, w) divided by its peak, (height, width) in -1..1: evidence for and against."""
    peak = np.abs(cam).max()
    return _resize(cam / peak, height, width) if peak > 0 else np.zeros((height, width), np.float32)


def find_box(heat: Map, threshold: float) -> Box | None:
    """The box of the region around the maximum of `heat` (H, W) that has `threshold` of it or more.

    The region is connected. The box is half-open and in the map's pixels. It is None if there is no
    heat.
    """
    peak = heat.max()
    if peak <= 0:
        return None
    runs = _find_runs(heat >= threshold * peak)
    top, column = np.unravel_index(int(heat.argmax()), heat.shape)
    peak_run = next(run for run in runs[top] if run[0] <= column < run[1])
    region = {(int(top), peak_run)}
    pending = list(region)
    while pending:
        row, (start, end) = pending.pop()
        for neighbour in (row - 1, row + 1):
            if 0 <= neighbour < len(runs):
                touching = {
                    (neighbour, run) for run in runs[neighbour] if run[0] < end and start < run[1]
                }
                pending.extend(touching - region)
                region |= touching
    rows = [row for row, _ in region]
    return Box(
        min(start for _, (start, _) in region),
        min(rows),
        max(end for _, (_, end) in region),
        max(rows) + 1,
    )


def _find_runs(hot: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The half-open spans of True in each row of `hot` (H, W)."""
    runs: list[list[tuple[int, int]]] = [[] for _ in hot]
    # `np.pad` and `np.diff` would take a quarter of the time that the box of a small map takes.
    padded = np.zeros((hot.shape[0], hot.shape[1] + 2), np.bool_)
    padded[:, 1:-1] = hot
    edges = padded[:, 1:] != padded[:, :-1]  # (H, W + 1), True where the value changes
    rows, columns = (indices.tolist() for indices in np.nonzero(edges))
    for row, start, end in zip(rows[::2], columns[::2], columns[1::2], strict=True):
        runs[row].append((start, end))
    return runs


def _scale(heat: Map) -> Map:
    """Min-max to 0..1."""
    shifted = heat - heat.min()
    scaled: Map = shifted / (EPS + shifted.max())
    return scaled


def _resize(heat: Map, height: int, width: int) -> Map:
    """Bilinear, half-pixel centres, edges clamped."""
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))  # mode F
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
