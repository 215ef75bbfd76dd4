"""How well masks overlap: counts of pixels by true and predicted class, and their scores.

Knows nothing of networks or files.
"""

from typing import NamedTuple

import torch

from training.imaging.preprocessing import IGNORED


class Overlap(NamedTuple):
    """Scores of a confusion matrix. A class without pixels, true or predicted, has NaN."""

    iou: torch.Tensor  # (K,): intersection over union
    dice: torch.Tensor  # (K,): 2 intersection / (true + predicted), which is F1 of the pixels
    precision: torch.Tensor  # (K,)
    recall: torch.Tensor  # (K,)
    miou: float  # the mean over the classes that have pixels
    pixel_accuracy: float


def count_confusion(truth: torch.Tensor, answers: torch.Tensor, classes: int) -> torch.Tensor:
    """The number of pixels of each true class (rows) and answer (columns): (K, K) int64."""
    counted = truth != IGNORED
    index = truth[counted].long() * classes + answers[counted].long()
    return torch.bincount(index, minlength=classes * classes).reshape(classes, classes)


def score_confusion(confusion: torch.Tensor) -> Overlap:
    """The scores of a confusion matrix (K, K): true classes in rows, answers in columns."""
    counts = confusion.double()
    both, true, answered = counts.diag(), counts.sum(1), counts.sum(0)
    iou = both / (true + answered - both)
    return Overlap(
        iou,
        2 * both / (true + answered),
        both / answered,
        both / true,
        float(iou.nanmean()),
        float(both.sum() / counts.sum()),
    )
