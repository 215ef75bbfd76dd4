"""What a graph's `cam` says: the map of 0..1, whether it is empty, and the region it points at.

`cam` is the signed Grad-CAM sum at the target layer's resolution (Selvaraju et al. 2017, eq. 1-2);
scaling follows pytorch-grad-cam. Pure arrays: knows nothing of pictures' files, colours or HTTP.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.imaging.geometry import Box

EPS = 1e-7
EMPTY_BELOW = 1e-4  # range of the positive part over the peak of |cam|
BOX_THRESHOLD = 0.15  # of the map's maximum

Map = NDArray[np.float32]


def is_empty(cam: Map) -> bool:
    """Whether no evidence is for the target: no range in the positive part of `cam` (h, w)."""
    positive = np.maximum(cam, 0)
    return bool(np.ptp(positive) <= EMPTY_BELOW * np.abs(cam).max())


def normalize_cam(cam: Map, height: int, width: int) -> Map:
    """`cam` (h, w) as evidence for the target, (height, width) in 0..1; all 0 if it is empty.

    ReLU, min-max, bilinear resize, min-max again: without the second one a small map that is
    enlarged would peak under 1.
    """
    if is_empty(cam):
        return np.zeros((height, width), np.float32)
    scaled = _scale(np.maximum(cam, 0))
    return _scale(_resize(scaled, height, width))


def normalize_signed_cam(cam: Map, height: int, width: int) -> Map:
    """`cam` (h, w) over its peak, (height, width) in -1..1: evidence for and against."""
    peak = np.abs(cam).max()
    return _resize(cam / peak, height, width) if peak > 0 else np.zeros((height, width), np.float32)


def find_box(heat: Map) -> Box | None:
    """Where `heat` (H, W) points: the connected region around its maximum, at 15 % of it or above.

    Half-open, in the map's pixels; None where there is no heat.
    """
    peak = heat.max()
    if peak <= 0:
        return None
    runs = _find_runs(heat >= BOX_THRESHOLD * peak)
    top, column = np.unravel_index(int(heat.argmax()), heat.shape)
    first = next(run for run in runs[top] if run[0] <= column < run[1])
    region = {(int(top), first)}
    todo = list(region)
    while todo:
        row, (start, end) = todo.pop()
        for beside in (row - 1, row + 1):
            if 0 <= beside < len(runs):
                touching = {
                    (beside, run) for run in runs[beside] if run[0] < end and start < run[1]
                }
                todo.extend(touching - region)
                region |= touching
    rows = [row for row, _ in region]
    return Box(
        min(start for _, (start, _) in region),
        min(rows),
        max(end for _, (_, end) in region),
        max(rows) + 1,
    )


def _find_runs(hot: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Half-open spans of True in each row of `hot` (H, W)."""
    runs: list[list[tuple[int, int]]] = [[] for _ in hot]
    # By hand: of a small map, `np.pad` and `np.diff` would be a quarter of what its box takes.
    framed = np.zeros((hot.shape[0], hot.shape[1] + 2), np.bool_)
    framed[:, 1:-1] = hot
    edges = framed[:, 1:] != framed[:, :-1]  # (H, W + 1), where it turns
    rows, columns = (indices.tolist() for indices in np.nonzero(edges))
    for row, start, end in zip(rows[::2], columns[::2], columns[1::2], strict=True):
        runs[row].append((start, end))
    return runs


def _scale(heat: Map) -> Map:
    """Min-max to 0..1."""
    low = heat - heat.min()
    scaled: Map = low / (EPS + low.max())
    return scaled


def _resize(heat: Map, height: int, width: int) -> Map:
    """Bilinear, half-pixel centres, edges clamped."""
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))  # mode F
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
