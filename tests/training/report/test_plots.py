"""A report has the plots that its metrics allow."""

from pathlib import Path

import numpy as np

from training.data.datasets import Split
from training.evaluate.metrics import Evaluation, compute_metrics
from training.report.plots import format_metrics, save_report_plots


def test_multilabel_reports_have_no_mistakes_and_no_confusion_matrix(tmp_path: Path) -> None:
    """The reliability diagram counts the probability of each label."""
    rng = np.random.default_rng(0)
    names = ("cat", "dog", "emu")
    split = Split(
        rng.integers(0, 256, (12, 8, 8, 3), np.uint8),
        rng.integers(0, 2, (12, 3)).astype(np.float32),
    )
    probabilities = rng.random((12, 3), np.float32)
    figures = compute_metrics(probabilities, split.labels, names)
    save_report_plots(tmp_path, Evaluation(names, split, probabilities, figures))
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]
    page = format_metrics(tmp_path, figures)
    assert "![Reliability](reliability.png)" in page
    assert any(line.startswith("| emu | ") for line in page)


def test_figures_that_are_not_defined_are_named(tmp_path: Path) -> None:
    """The table says so, the sentences say why, and the confusion matrix is still plotted."""
    names = ("cat", "dog", "emu")
    split = Split(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64))
    probabilities = np.tile(np.array([[0.2, 0.7, 0.1]], np.float32), (4, 1))
    figures = compute_metrics(probabilities, split.labels, names)
    save_report_plots(tmp_path, Evaluation(names, split, probabilities, figures))
    assert (tmp_path / "confusion.png").exists()
    page = format_metrics(tmp_path, figures)
    assert "| macro roc auc | not defined |" in page
    assert "- " + figures["undefined"][0] in page
    assert "| cat | not defined | 0 | 0 | 4 |" in page
