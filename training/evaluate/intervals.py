"""How far the figures of a network may be from those of all pictures like these.

A figure is a mean over the pictures, or a mean of ranks. So its variance is the sum of the squares
of what each picture contributes (for ROC-AUC: DeLong et al. 1988). Knows nothing of networks.
"""

import math

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
Values = NDArray[np.float64]


def find_intervals(
    figures: dict[str, float | None], p: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[str, list[float]]:
    """The 95 % confidence intervals of those of the figures that have one.

    Of probabilities (N, K), and classes (N,) or marks of 0 and 1 (N, K).
    """
    contributions = {"macro_roc_auc": contribute_to_roc_auc}
    if y.ndim == 1:
        contributions |= {
            "accuracy": contribute_to_accuracy,
            "balanced_accuracy": contribute_to_balanced_accuracy,
        }
    found = {}
    for name, contribute in contributions.items():
        value = figures[name]
        if value is not None and (interval := find_interval(value, contribute(p, y))):
            found[name] = interval
    return found


def find_interval(value: float, contributions: Values) -> list[float] | None:
    """The 95 % confidence interval of a figure between 0 and 1, or None where it has no spread.

    It is symmetric in the log-odds, so that it stays between 0 and 1.
    """
    error = math.sqrt((contributions**2).sum())
    if not error or not 0 < value < 1:
        return None
    odds, width = math.log(value / (1 - value)), NORMAL_95 * error / (value * (1 - value))
    return [round(1 / (1 + math.exp(-each)), 5) for each in (odds - width, odds + width)]


def contribute_to_accuracy(p: NDArray[np.float32], y: NDArray[np.int64]) -> Values:
    """What each picture adds to the difference from the true accuracy: (N,)."""
    right = (p.argmax(1) == y).astype(float)
    return np.asarray((right - right.mean()) / len(y))


def contribute_to_balanced_accuracy(p: NDArray[np.float32], y: NDArray[np.int64]) -> Values:
    """The same for the mean recall of the labels that have pictures: (N,)."""
    right = (p.argmax(1) == y).astype(float)
    counts = np.bincount(y, minlength=p.shape[1])
    recall = np.bincount(y, right, p.shape[1]) / counts.clip(1)
    return np.asarray((right - recall[y]) / counts[y] / (counts > 0).sum())


def contribute_to_roc_auc(p: NDArray[np.float32], y: NDArray[np.int64]) -> Values:
    """The same for the mean ROC-AUC of the labels on some pictures, and not on all: (N,)."""
    marks = y > 0 if y.ndim == 2 else y[:, None] == np.arange(p.shape[1])  # (N, K)
    total, labels = np.zeros(len(y)), 0
    for score, shown in zip(p.T, marks.T, strict=True):
        if not shown.any() or shown.all():
            continue
        # How many of the others' scores are below each one; of equal scores, one half.
        pictures, others = score[shown], score[~shown]
        above, below = count_below(others, pictures), count_below(pictures, others)
        total[shown] += (above - above.mean()) / len(pictures)
        total[~shown] += (below.mean() - below) / len(others)
        labels += 1
    return total / max(labels, 1)


def count_below(values: NDArray[np.float32], scores: NDArray[np.float32]) -> Values:
    """The share of the values that is below each score."""
    ordered = np.sort(values)
    lower, upper = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((lower + upper) / 2 / len(values))
