"""How far a file's answers are from those of the same network in 32 bits.

Both explain the class that 32 bits find most probable. Knows nothing of how bits are saved.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.artifact.parity import compute_cosine
from training.imaging.preprocessing import GraphRunner, Pixels

BATCH = 32
NEIGHBOUR = 1  # cells, also diagonally


@dataclass(frozen=True)
class Answers:
    """A graph's answers to N pictures, each with one map."""

    targets: NDArray[np.int64]  # (N,), the explained classes
    probabilities: NDArray[np.float32]  # (N, K)
    maps: NDArray[np.float32]  # (N, h, w)


def collect_answers(
    run: GraphRunner, pictures: Pixels, targets: NDArray[np.int64] | None = None
) -> Answers:
    """Run all pictures (N, H, W, C). Without targets each map explains the graph's own top-1."""
    wanted = np.full(len(pictures), -1) if targets is None else targets
    logits, probabilities, maps = [], [], []
    for start in range(0, len(pictures), BATCH):
        rows = slice(start, start + BATCH)
        found = run(pictures[rows], wanted[rows, None])
        logits.append(found[0])
        probabilities.append(found[1])
        maps.append(found[2][:, 0])
    best = np.concatenate(logits).argmax(1)
    return Answers(
        best if targets is None else targets, np.concatenate(probabilities), np.concatenate(maps)
    )


def compare_answers(
    full: Answers, other: Answers, labels: NDArray[Any] | None = None
) -> dict[str, Any]:
    """The figures of the card. Without labels, the answers in 32 bits count as the truth."""
    truth = full.targets if labels is None else labels
    before, after = (score_pictures(a.probabilities, truth) for a in (full, other))
    changes = 100 * (after - before)  # (N,), in points
    pairs = list(zip(full.maps, other.maps, strict=True))
    cosines = [compute_cosine(one, two) for one, two in pairs]
    steps = np.array([count_steps(one, two) for one, two in pairs])
    top1 = full.probabilities.argmax(1) != other.probabilities.argmax(1)
    return {
        "pictures": len(truth),
        "labelled": labels is not None,
        "accuracy_fp32": round(float(before.mean()), 6),
        "accuracy_points": round(float(changes.mean()), 3),
        "accuracy_points_error": round(float(changes.std() / np.sqrt(len(changes))), 3),
        "top1_changed": int(top1.sum()),
        "cam_cosine": round(float(np.mean(cosines)), 5),
        "cam_cosine_worst": round(float(np.min(cosines)), 5),
        "cam_pointing": round(float((steps == 0).mean()), 4),
        "cam_pointing_near": round(float((steps <= NEIGHBOUR).mean()), 4),
    }


def measure_harm(full: Answers, other: Answers) -> float:
    """One less the mean correlation of the maps. It sees more of flat maps than their cosine."""
    one, two = ((maps - maps.mean((1, 2), keepdims=True)) for maps in (full.maps, other.maps))
    return 1 - float(np.mean([compute_cosine(a, b) for a, b in zip(one, two, strict=True)]))


def score_pictures(probabilities: NDArray[np.float32], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Per picture (N,) 1 if it is correct, else 0; with several labels, the share of them."""
    if truth.ndim == 2:
        return np.asarray(((probabilities > 0.5) == (truth > 0)).mean(1))
    return np.asarray(probabilities.argmax(1) == truth, float)


def count_steps(one: NDArray[np.float32], other: NDArray[np.float32]) -> int:
    """How many cells lie between the hottest cells of two maps; a diagonal step counts as one."""
    places = (np.unravel_index(int(a.argmax()), a.shape) for a in (one, other))
    (top, left), (below, right) = places
    return int(max(abs(top - below), abs(left - right)))
