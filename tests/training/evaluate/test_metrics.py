"""Metrics agree with counts by hand."""

import numpy as np
import pytest

from training.evaluate.metrics import compute_metrics, drop_confusion_matrix

NAMES = ("cat", "dog", "emu")


def test_counts_and_shares_are_right() -> None:
    """Three of five pictures are correct."""
    p = np.eye(3, dtype=np.float32)[[0, 0, 1, 2, 2]] * 0.8 + 0.1
    found = compute_metrics(p / p.sum(1, keepdims=True), np.array([0, 1, 1, 2, 0]), NAMES)
    assert (found["pictures"], found["correct"], found["accuracy"]) == (5, 3, 0.6)
    assert found["per_class"]["dog"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3, abs=1e-4),
        "pictures": 2,
    }
    assert found["confusion"] == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert "confusion" not in drop_confusion_matrix(found)


def test_calibration_error_is_confidence_minus_accuracy() -> None:
    """A confidence of 90 % with an accuracy of 50 % gives 0.4."""
    p = np.tile(np.array([[0.9, 0.05, 0.05]], np.float32), (10, 1))
    found = compute_metrics(p, np.array([0, 1] * 5), NAMES)
    assert found["calibration_error"] == pytest.approx(0.4, abs=1e-4)


def test_multilabel_metrics_count_each_label() -> None:
    """One label of six is wrong."""
    p = np.array([[0.9, 0.2, 0.7], [0.1, 0.8, 0.6]], np.float32)
    found = compute_metrics(p, np.array([[1, 0, 1], [0, 1, 0]], np.float32), NAMES)
    assert found["label_accuracy"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["all_labels_right"] == 0.5


def test_labels_without_pictures_are_left_out() -> None:
    """No mean becomes NaN."""
    p = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1]], np.float32)
    found = compute_metrics(p, np.array([0, 1]), NAMES)
    assert found["balanced_accuracy"] == 1.0
    assert found["macro_roc_auc"] == 1.0
    assert list(found["per_class"]) == ["cat", "dog"]
