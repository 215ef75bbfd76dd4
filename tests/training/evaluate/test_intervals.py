"""Confidence intervals agree with resampling, and with the formula of DeLong et al."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluate.intervals import find_interval, find_intervals
from training.evaluate.metrics import compute_metrics

NAMES = ("cat", "dog", "emu")


def draw_answers(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities (N, 3) that are mostly right, and classes of uneven frequency."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[y]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p.astype(np.float32), y


@pytest.mark.parametrize("several", [False, True])
def test_intervals_are_as_wide_as_resampling_says(several: bool) -> None:
    """Drawing the pictures anew, with replacement, gives nearly the same limits."""
    p, y = draw_answers(600)
    labels = np.eye(3, dtype=np.float32)[y] if several else y
    found = compute_metrics(p, labels, NAMES)["intervals"]
    rng = np.random.default_rng(1)
    drawn = [
        compute_metrics(p[rows], labels[rows], NAMES) for rows in rng.integers(600, size=(300, 600))
    ]
    names = ["macro_roc_auc"] if several else ["accuracy", "balanced_accuracy", "macro_roc_auc"]
    assert sorted(found) == names
    for name in names:
        limits = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        assert found[name] == pytest.approx(limits, abs=0.2 * (limits[1] - limits[0]))


def test_two_classes_have_the_spread_of_delong() -> None:
    """By the definition: variances of the shares of pairs in the right order."""
    rng = np.random.default_rng(2)
    y = np.repeat([0, 1], [40, 25])
    score = (rng.normal(size=65) + y).astype(np.float32)
    shape = np.stack([1 - score, score], 1)
    pairs = (score[40:, None] > score[None, :40]).astype(float)  # (25, 40)
    auc = pairs.mean()
    variance = pairs.mean(1).var() / 25 + pairs.mean(0).var() / 40
    found = find_intervals(
        {"macro_roc_auc": auc, "accuracy": None, "balanced_accuracy": None}, shape, y
    )
    assert found == {
        "macro_roc_auc": find_interval(auc, np.array([np.sqrt(variance)])),
    }


def test_figures_without_a_spread_have_no_interval() -> None:
    """Everything is right: these pictures cannot say how wrong the network may be."""
    p = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert "intervals" not in compute_metrics(p, np.array([0, 1, 2, 0]), NAMES)
