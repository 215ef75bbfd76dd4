"""How good a network is on a split: counts of its answers, and the measures made of them.

Each process counts its share, and the counts are merged. Knows nothing of networks or files.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from training.config import Config
from training.data.datasets import Split
from training.errors import UserError
from training.fit.overlap import count_confusion, score_confusion
from training.validation import quote

PHRASES = {  # of the measures by which the best epoch may be chosen
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "val_macro_f1": "validation macro-F1",
    "val_macro_roc_auc": "validation ROC-AUC",
    "val_mean_average_precision": "validation mAP",
    "val_miou": "validation mIoU",
}
TORCHMETRICS_NAMES = {  # of the score of each label, by the measure of probabilities
    "macro_f1": "f1_score",
    "macro_roc_auc": "auroc",
    "mean_average_precision": "average_precision",
}


def get_best_measure(config: Config) -> tuple[str, int]:
    """The measure by which the best epoch is chosen, and -1 if more of it is better, else 1."""
    measure = config.best or ("miou" if config.task == "segmentation" else "loss")
    return f"val_{measure}", 1 if measure == "loss" else -1


def take_share(split: Split, size: int, rank: int, processes: int) -> Split:
    """The part of a split that a process measures: whole batches, as one process would make."""
    if processes == 1:
        return split
    batches = math.ceil(len(split) / size)
    start, stop = (batches * at // processes * size for at in (rank, rank + 1))
    return split.select(np.arange(len(split))[start:stop])


def check_best(config: Config, split: Split, classes: int) -> None:
    """Raise UserError if the validation split cannot determine the measure of the best epoch."""
    if config.best not in ("macro_roc_auc", "mean_average_precision"):
        return
    shares = split.class_shares(classes)
    defined = (shares > 0) & (shares < 1) if config.best == "macro_roc_auc" else shares > 0
    if not defined.any():
        raise UserError(
            f"best={quote(config.best)} is not defined on the validation split of {config.data}, "
            "because its pictures all have the same labels. Choose another measure or split."
        )


@dataclass
class Tally:
    """What one process counts on its share of a split."""

    config: Config
    classes: int
    losses: list[tuple[float, int]] = field(default_factory=list)  # mean of a batch, its pictures
    right: int = 0
    answers: int = 0  # of pictures; multilabel: of their labels
    confusion: torch.Tensor | None = None  # (K, K) of pixels
    probabilities: list[torch.Tensor] = field(default_factory=list)  # (n, K)
    labels: list[torch.Tensor] = field(default_factory=list)

    def count(self, loss: float, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Count one batch of logits."""
        self.losses.append((loss, len(label)))
        if self.config.task == "segmentation":
            found = count_confusion(label, logits.argmax(1), self.classes).cpu()
            self.confusion = found if self.confusion is None else self.confusion + found
            return
        if self.config.one_neuron:
            logits = torch.cat([-logits, logits], 1) / 2  # (n, 1) to (n, 2)
        if self.config.task == "multilabel":
            right = (logits > 0) == (label > 0.5)
        else:
            right = logits.argmax(1) == label
        self.right += int(right.sum())
        self.answers += right.numel()
        if self.config.best in TORCHMETRICS_NAMES:
            several = self.config.task == "multilabel"
            self.probabilities.append((logits.sigmoid() if several else logits.softmax(1)).cpu())
            self.labels.append(label.cpu())


def merge_tallies(tallies: Sequence[Tally]) -> dict[str, float]:
    """The figures of the whole split. They do not depend on how it was shared."""
    losses = [each for tally in tallies for each in tally.losses]
    loss = math.fsum(mean * n for mean, n in losses) / sum(n for _, n in losses)
    confusions = [tally.confusion for tally in tallies if tally.confusion is not None]
    if confusions:
        scores = score_confusion(torch.stack(confusions).sum(0))
        return {"val_loss": loss, "val_accuracy": scores.pixel_accuracy, "val_miou": scores.miou}
    right = sum(tally.right for tally in tallies)
    answers = sum(tally.answers for tally in tallies)
    figures = {"val_loss": loss, "val_accuracy": right / answers}
    best = tallies[0].config.best
    if best in TORCHMETRICS_NAMES and math.isfinite(loss):
        p = torch.cat([part for tally in tallies for part in tally.probabilities])
        y = torch.cat([part for tally in tallies for part in tally.labels])
        figures[f"val_{best}"] = float(score_labels(str(best), p, y).nanmean())
    return figures


def score_labels(measure: str, p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A measure of each label (K,). NaN where the pictures do not determine it.

    Of probabilities (N, K), and classes (N,) or marks of 0 and 1 (N, K).
    """
    from torchmetrics.functional import classification  # its import takes longer than torch's

    several = y.ndim == 2
    counts = y.sum(0) if several else torch.bincount(y, minlength=p.shape[1])
    score: Any = getattr(
        classification, f"{'multilabel' if several else 'multiclass'}_{TORCHMETRICS_NAMES[measure]}"
    )
    found: torch.Tensor = score(p, y.long(), p.shape[1], average="none").float()
    found = found.masked_fill(counts == 0, torch.nan)
    if measure == "macro_roc_auc":
        found = found.masked_fill(counts == len(y), torch.nan)
    return found
