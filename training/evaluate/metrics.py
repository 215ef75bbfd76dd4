"""Classification metrics of probabilities on labelled pictures. Knows nothing of networks."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional import classification
from tqdm import tqdm

from training.data.datasets import Split
from training.imaging.preprocessing import Predictor


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
    """Accuracy, per-class precision, recall and F1, macro ROC-AUC, calibration error, confusion."""
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    if y.ndim == 2:
        return compute_multilabel_metrics(p, y.long(), names)
    k = len(names)
    each = [
        score(p, y, k, average="none")
        for score in (
            classification.multiclass_precision,
            classification.multiclass_recall,
            classification.multiclass_f1_score,
        )
    ]
    here = torch.from_numpy(np.unique(labels))  # labels without pictures are left out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auc = classification.multiclass_auroc(p, y, k, average="none")
    return {
        "pictures": len(y),
        "correct": int((p.argmax(1) == y).sum()),
        "accuracy": round(float((p.argmax(1) == y).double().mean()), 6),
        "balanced_accuracy": round_or_none(each[1][here].mean()),
        "macro_f1": round_or_none(each[2][here].mean()),
        "macro_roc_auc": round_or_none(auc[here].nanmean()),
        "calibration_error": compute_calibration_error(p, y),
        "negative_log_likelihood": round_or_none(
            -p.gather(1, y[:, None]).clamp_min(1e-12).log().mean()
        ),
        "per_class": {
            name: dict(
                zip(
                    ("precision", "recall", "f1"), (round_or_none(s[i]) for s in each), strict=True
                ),
                pictures=int((y == i).sum()),
            )
            for i, name in enumerate(names)
            if i in here
        },
        "confusion": classification.multiclass_confusion_matrix(p, y, k).tolist(),
    }


def compute_multilabel_metrics(
    p: torch.Tensor, y: torch.Tensor, names: tuple[str, ...]
) -> dict[str, Any]:
    """Mean average precision, macro F1 and ROC-AUC, label accuracy and exact match, (N, K) each."""
    k = len(names)
    precision = classification.multilabel_average_precision(p, y, k, average="none")
    auc = classification.multilabel_auroc(p, y, k, average="none")
    f1 = classification.multilabel_f1_score(p, y, k, average="none")
    right = (p > 0.5) == (y > 0)
    return {
        "pictures": len(y),
        "mean_average_precision": round_or_none(precision.nanmean()),
        "macro_roc_auc": round_or_none(auc.nanmean()),
        "macro_f1": round_or_none(f1.mean()),
        "label_accuracy": round_or_none(right.float().mean()),
        "all_labels_right": round_or_none(right.all(1).float().mean()),
        "calibration_error": compute_calibration_error(p, y),
        "per_class": {
            name: {
                "average_precision": round_or_none(precision[i]),
                "roc_auc": round_or_none(auc[i]),
                "f1": round_or_none(f1[i]),
                "pictures": int(y[:, i].sum()),
            }
            for i, name in enumerate(names)
        },
    }


def compute_calibration_error(p: torch.Tensor, y: torch.Tensor, bins: int = 15) -> float | None:
    """Expected calibration error of probabilities (N, K) (Guo et al. 2017, equation 3).

    For classes y (N,) it is that of the top-1; for y (N, K) of 0 and 1, that of all labels.
    """
    if y.ndim == 2:
        found = classification.binary_calibration_error(p.flatten(), y.long().flatten(), bins)
    else:
        found = classification.multiclass_calibration_error(p, y, p.shape[1], bins)
    return round_or_none(found)


def drop_confusion_matrix(figures: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the confusion matrix, for the card."""
    return {name: value for name, value in figures.items() if name != "confusion"}


def round_or_none(value: torch.Tensor) -> float | None:
    """Round to five decimals; NaN, which these pictures cannot determine, becomes None."""
    return None if value.isnan() else round(float(value), 5)
