"""Where a model looks on average: the card's reference for the averages that a service observes.

Heat is max(cam, 0) as a share of its sum. The border share is the heat within a tenth of the side
from any border; a cell across that line counts by its covered area. The mean map is the mean of
max(cam, 0) / max(cam), in the graph's resolution. To keep cards small, maps of more than 16 x 16
cells are left out. Empty maps are not counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.gradcam.heatmap import is_empty_map

BORDER_WIDTH = 0.1  # as a share of the side
MAX_CELLS = 16  # per side of a mean map
MAX_CLASSES = 20  # with more classes the card has only the mean over all


def summarize_maps(
    cams: NDArray[np.float32],  # (N, h, w) of each picture's top-1
    answers: NDArray[np.int64],  # (N,): the top-1 class
    labels: Sequence[str],
) -> dict[str, Any]:
    """The card's `attention`: the border share and mean map over all maps and per class."""
    some = np.array([not is_empty_map(cam) for cam in cams], bool)
    cams, answers = cams[some], answers[some]
    if not len(cams):
        return {"maps": 0, "border_share": None, "mean": None, "classes": {}}
    each = [(int(k), labels[k]) for k in np.unique(answers)] if len(labels) <= MAX_CLASSES else []
    return {
        "maps": len(cams),
        **average_maps(cams),
        "classes": {
            label: {"count": int((answers == k).sum()), **average_maps(cams[answers == k])}
            for k, label in each
        },
    }


def average_maps(cams: NDArray[np.float32]) -> dict[str, Any]:
    """The border share and mean map of non-empty maps (N, h, w)."""
    heat = np.maximum(cams, 0)
    total = heat.sum((1, 2))
    shares = (heat * compute_border_weights(cams.shape[1], cams.shape[2])).sum((1, 2)) / total
    mean = (heat / heat.max((1, 2), keepdims=True)).mean(0).astype(float).round(3).tolist()
    return {
        "border_share": round(float(shares.mean()), 4),
        "mean": mean if max(cams.shape[1:]) <= MAX_CELLS else None,
    }


def compute_border_weights(height: int, width: int) -> NDArray[np.float64]:
    """The share of each cell's area that lies near a border: (h, w) in 0..1."""
    inner = []
    for cells in (height, width):
        edges = np.arange(cells + 1) / cells
        clipped = edges.clip(BORDER_WIDTH, 1 - BORDER_WIDTH)
        inner.append(np.diff(clipped) * cells)
    return np.asarray(1 - inner[0][:, None] * inner[1][None])
