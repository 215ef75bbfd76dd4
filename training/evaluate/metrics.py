"""Classification metrics of probabilities on labelled pictures. Knows nothing of networks.

The functions import torchmetrics, because its import takes longer than torch's.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.datasets import Split
from training.evaluate.chance import find_accuracy_doubts
from training.evaluate.intervals import find_intervals
from training.fit.scores import score_labels
from training.imaging.preprocessing import Predictor

MAX_NAMED_LABELS = 12  # in a sentence


@dataclass(frozen=True)
class Evaluation:
    """A classifier's answers to a labelled split, and their metrics."""

    labels: tuple[str, ...]
    split: Split
    probabilities: NDArray[np.float32]  # (N, K)
    figures: dict[str, Any]  # as compute_metrics returns them


def predict_split(run: Predictor, split: Split, size: int = 128) -> NDArray[np.float32]:
    """The output of `run` for every picture of the split, in batches: (N, …)."""
    starts = tqdm(range(0, len(split), size), "predicting", leave=False)
    return np.concatenate([run(split.pictures[start : start + size]) for start in starts])


def compute_metrics(
    probabilities: NDArray[np.float32], labels: NDArray[Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy and other figures, for all pictures and for each label.

    A figure that these pictures cannot determine is None, and no mean counts it. The sentences of
    `undefined` say which and why. Those of `doubts` say that the figures could be those of chance.
    `intervals` are the 95 % confidence intervals of some figures. Without any there is no such key.
    """
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about labels without pictures, which are handled here
        if y.ndim == 2:
            figures = compute_multilabel_metrics(p, y.long(), names)
        else:
            figures = compute_multiclass_metrics(p, y, names)
    further = {
        "intervals": find_intervals(figures, probabilities, labels),
        "doubts": find_accuracy_doubts(figures),
    }
    return {**figures, **{name: found for name, found in further.items() if found}}


def compute_multiclass_metrics(
    p: torch.Tensor, y: torch.Tensor, names: tuple[str, ...]
) -> dict[str, Any]:
    """Of probabilities (N, K) and classes (N,). Labels without pictures are left out."""
    from torchmetrics.functional import classification

    k = len(names)
    counts = torch.bincount(y, minlength=k)  # (K,)
    precision, recall = (
        score(p, y, k, average="none")
        for score in (classification.multiclass_precision, classification.multiclass_recall)
    )
    silent = (torch.bincount(p.argmax(1), minlength=k) == 0) & (counts > 0)
    precision = precision.masked_fill(silent, torch.nan)
    f1, auc = (score_labels(measure, p, y) for measure in ("macro_f1", "macro_roc_auc"))
    here = counts > 0
    undefined = [
        *describe_missing(names, counts, len(y)),
        *name_labels(
            "The network never answers {}, so {its} precision is not defined.", names, silent
        ),
    ]
    return {
        "pictures": len(y),
        "correct": int((p.argmax(1) == y).sum()),
        "accuracy": round(float((p.argmax(1) == y).double().mean()), 6),
        "balanced_accuracy": round_or_none(recall[here].mean()),
        "macro_f1": round_or_none(f1.nanmean()),
        "macro_roc_auc": round_or_none(auc.nanmean()),
        "calibration_error": compute_calibration_error(p, y),
        "negative_log_likelihood": round_or_none(
            -p.gather(1, y[:, None]).clamp_min(1e-12).log().mean()
        ),
        **({"undefined": undefined} if undefined else {}),
        "per_class": {
            names[i]: {
                "precision": round_or_none(precision[i]),
                "recall": round_or_none(recall[i]),
                "f1": round_or_none(f1[i]),
                "pictures": int(counts[i]),
            }
            for i in here.nonzero()[:, 0].tolist()
        },
        "confusion": classification.multiclass_confusion_matrix(p, y, k).tolist(),
    }


def compute_multilabel_metrics(
    p: torch.Tensor, y: torch.Tensor, names: tuple[str, ...]
) -> dict[str, Any]:
    """Of probabilities (N, K) and marks of 0 and 1 (N, K). No mean counts labels without pictures.

    They are mean average precision, macro F1 and ROC-AUC, label accuracy and exact match.
    """
    counts = y.sum(0)  # (K,)
    precision, auc, f1 = (
        score_labels(measure, p, y)
        for measure in ("mean_average_precision", "macro_roc_auc", "macro_f1")
    )
    undefined = describe_missing(names, counts, len(y))
    right = (p > 0.5) == (y > 0)
    return {
        "pictures": len(y),
        "mean_average_precision": round_or_none(precision.nanmean()),
        "macro_roc_auc": round_or_none(auc.nanmean()),
        "macro_f1": round_or_none(f1.nanmean()),
        "label_accuracy": round_or_none(right.float().mean()),
        "all_labels_right": round_or_none(right.all(1).float().mean()),
        "calibration_error": compute_calibration_error(p, y),
        **({"undefined": undefined} if undefined else {}),
        "per_class": {
            name: {
                "average_precision": round_or_none(precision[i]),
                "roc_auc": round_or_none(auc[i]),
                "f1": round_or_none(f1[i]),
                "pictures": int(counts[i]),
            }
            for i, name in enumerate(names)
        },
    }


def describe_missing(names: tuple[str, ...], counts: torch.Tensor, pictures: int) -> list[str]:
    """Which figures labels on none, or on all, of the pictures leave undefined."""
    return [
        *name_labels(
            "No picture shows {}, so {its} figures are not defined and no mean counts them.",
            names,
            counts == 0,
        ),
        *name_labels(
            "Every picture shows {}, so {its} ROC-AUC is not defined and no mean counts it.",
            names,
            counts == pictures,
        ),
    ]


def name_labels(sentence: str, names: tuple[str, ...], chosen: torch.Tensor) -> list[str]:
    """The sentence with the chosen labels (K,) in it, or nothing if there are none."""
    found = [name for name, here in zip(names, chosen.tolist(), strict=True) if here]
    if not found:
        return []
    rest = len(found) - MAX_NAMED_LABELS
    named = ", ".join(found[:MAX_NAMED_LABELS]) + (f" and {rest} more labels" if rest > 0 else "")
    return [sentence.format(named, its="its" if len(found) == 1 else "their")]


def compute_calibration_error(p: torch.Tensor, y: torch.Tensor, bins: int = 15) -> float | None:
    """Expected calibration error of probabilities (N, K) (Guo et al. 2017, equation 3).

    For classes y (N,) it is that of the top-1; for y (N, K) of 0 and 1, that of all labels.
    """
    from torchmetrics.functional import classification

    if y.ndim == 2:
        found = classification.binary_calibration_error(p.flatten(), y.long().flatten(), bins)
    else:
        found = classification.multiclass_calibration_error(p, y, p.shape[1], bins)
    return round_or_none(found)


def compute_calibration_change(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[Any]
) -> float:
    """By how many points the calibration error of probabilities (N, K) grew."""
    y = torch.from_numpy(labels)
    errors = [compute_calibration_error(torch.from_numpy(p), y) for p in (before, after)]
    return round(100 * ((errors[1] or 0) - (errors[0] or 0)), 3)


def drop_confusion_matrix(figures: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the confusion matrix, for the card."""
    return {name: value for name, value in figures.items() if name != "confusion"}


def round_or_none(value: torch.Tensor) -> float | None:
    """Round to five decimals; NaN, which these pictures cannot determine, becomes None."""
    return None if value.isnan() else round(float(value), 5)
