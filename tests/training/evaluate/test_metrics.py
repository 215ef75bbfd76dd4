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
    assert found["undefined"] == [
        "No picture shows emu, so its figures are not defined and no mean counts them."
    ]


def test_a_single_label_has_no_roc_auc() -> None:
    """It compares pictures with and without a label. The reason stands beside the figure."""
    p = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1]], np.float32)
    found = compute_metrics(p, np.array([0, 0]), NAMES)
    assert found["macro_roc_auc"] is None
    assert found["accuracy"] == 0.5
    assert found["undefined"] == [
        "No picture shows dog, emu, so their figures are not defined and no mean counts them.",
        "Every picture shows cat, so its ROC-AUC is not defined and no mean counts it.",
    ]


def test_a_label_that_is_never_answered_has_no_precision() -> None:
    """Its recall and F1 are 0, and count."""
    p = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], np.float32)
    found = compute_metrics(p, np.array([0, 1, 2]), NAMES)
    assert found["per_class"]["dog"] == {"precision": None, "recall": 0, "f1": 0, "pictures": 1}
    assert found["balanced_accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["undefined"] == ["The network never answers dog, so its precision is not defined."]


def test_multilabel_means_leave_out_labels_on_no_or_all_pictures() -> None:
    """Here each picture is in the right order for cat and dog, so all means are 1."""
    p = np.array([[0.9, 0.2, 0.7], [0.1, 0.8, 0.6], [0.2, 0.3, 0.1]], np.float32)
    found = compute_metrics(p, np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32), NAMES)
    assert found["mean_average_precision"] == found["macro_roc_auc"] == found["macro_f1"] == 1
    assert found["per_class"]["emu"] == {
        "average_precision": None, "roc_auc": None, "f1": None, "pictures": 0
    }  # fmt: skip
    assert len(found["undefined"]) == 1
    found = compute_metrics(p, np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]], np.float32), NAMES)
    assert found["macro_roc_auc"] == 1
    assert found["per_class"]["emu"]["roc_auc"] is None
    nothing = compute_metrics(p, np.zeros((3, 3), np.float32), NAMES)
    assert nothing["mean_average_precision"] is nothing["macro_roc_auc"] is None


def test_only_some_of_many_labels_are_named() -> None:
    """A thousand names make no sentence."""
    names = tuple(f"n{i}" for i in range(100))
    found = compute_metrics(np.eye(100, dtype=np.float32)[:2], np.array([0, 1]), names)
    assert found["undefined"][0].startswith("No picture shows n2, n3, ")
    assert " and 86 more labels, so their figures" in found["undefined"][0]
