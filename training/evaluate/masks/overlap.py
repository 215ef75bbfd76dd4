"""How well masks fit those of a data set, at the size of the data set's own masks.

Pixels of all pictures count together, so a large picture weighs more than a small one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.data.decoded.masks import read_mask
from training.data.mask_folder import MaskSplit
from training.evaluate.chance import MIN_SKILL
from training.fit.overlap import Overlap, count_confusion, score_confusion
from training.imaging.preprocessing import IGNORED, Input, Pixels

MaskPredictor = Callable[[Pixels], Pixels]  # pictures (N, H, W, C) to masks (N, H, W) uint8
BATCH_SIZE = 8  # pictures


@dataclass(frozen=True)
class MaskEvaluation:
    """Masks (N, H, W) of a split in the network's size, and their figures."""

    labels: tuple[str, ...]
    split: MaskSplit
    masks: Pixels
    scores: NDArray[np.float64]  # (N,): the mIoU of each picture
    figures: dict[str, Any]


def evaluate_masks(
    predict: MaskPredictor, split: MaskSplit, labels: tuple[str, ...], input_spec: Input
) -> MaskEvaluation:
    """Predict every picture of a split and compare at the size of its own mask."""
    starts = tqdm(range(0, len(split), BATCH_SIZE), "predicting", leave=False)
    masks = np.concatenate([predict(split.pictures[i : i + BATCH_SIZE]) for i in starts])
    counts = [
        compare_mask(mask, read_mask(pair, len(labels)), len(labels), input_spec)
        for mask, pair in zip(masks, split.files, strict=True)
    ]
    scores = np.array([score_confusion(each).miou for each in counts])
    figures = compute_mask_metrics(torch.stack(counts), labels)
    return MaskEvaluation(labels, split, masks, scores, figures)


def compare_mask(mask: Pixels, truth: Pixels, classes: int, input_spec: Input) -> torch.Tensor:
    """The confusion matrix (K, K) of a mask (H, W) and the true one (h, w), at the latter's size.

    Pixels that the network did not see, outside the crop, are not counted.
    """
    placed = place_mask(mask, truth.shape, input_spec)
    truth = np.where(placed == IGNORED, IGNORED, truth)
    return count_confusion(torch.from_numpy(truth), torch.from_numpy(placed), classes)


def place_mask(mask: Pixels, size: tuple[int, ...], input_spec: Input) -> Pixels:
    """A mask (H, W) on the picture of this size (h, w): (h, w), and 255 outside the crop."""
    height, width = size
    image = Image.fromarray(mask)
    if input_spec.resize is not None:
        short = min(height, width)
        whole = int(input_spec.resize * width / short), int(input_spec.resize * height / short)
        canvas = Image.new("L", whole, IGNORED)
        left, top = (round((side - own) / 2) for side, own in zip(whole, image.size, strict=True))
        canvas.paste(image, (left, top))
        image = canvas
    return np.array(image.resize((width, height), Image.Resampling.NEAREST))


def compute_mask_metrics(counts: torch.Tensor, labels: tuple[str, ...]) -> dict[str, Any]:
    """The figures of confusion matrices (N, K, K), one per picture.

    A figure that these pictures cannot determine is None, and no mean counts it.
    """
    confusion = counts.sum(0)
    scores = score_confusion(confusion)
    shown = (counts.sum(2) > 0).sum(0)  # (K,): pictures whose true mask has the class
    figures = {
        "pictures": len(counts),
        "miou": round_or_none(torch.tensor(scores.miou)),
        "macro_dice": round_or_none(scores.dice.nanmean()),
        "pixel_accuracy": round_or_none(torch.tensor(scores.pixel_accuracy)),
        "per_class": {name: describe_class(scores, shown, i) for i, name in enumerate(labels)},
        "confusion": confusion.tolist(),
    }
    doubts = find_overlap_doubts(scores.miou, confusion)
    figures |= {"doubts": doubts} if doubts else {}
    missing = [name for name, count in zip(labels, shown.tolist(), strict=True) if not count]
    if missing:
        figures["undefined"] = [
            f"No mask has {', '.join(missing)}, so some of their figures are not defined."
        ]
    return figures


def find_overlap_doubts(miou: float, confusion: torch.Tensor) -> list[str]:
    """Whether the mIoU could be that of always answering the most frequent class."""
    counts = confusion.sum(1)
    chance = float(counts.max() / counts.sum()) / int((counts > 0).sum())
    if miou - chance > MIN_SKILL * (1 - chance):
        return []
    return [
        f"its mIoU is {miou:.3f}, which is not clearly more than chance: always answering the most "
        f"frequent class gives {chance:.3f}"
    ]


def describe_class(scores: Overlap, shown: torch.Tensor, index: int) -> dict[str, Any]:
    """The figures of one class."""
    return {
        "iou": round_or_none(scores.iou[index]),
        "dice": round_or_none(scores.dice[index]),
        "precision": round_or_none(scores.precision[index]),
        "recall": round_or_none(scores.recall[index]),
        "pictures": int(shown[index]),
    }


def describe_overlap(figures: dict[str, Any], labels: Sequence[str]) -> str:
    """The main figures in one line."""
    each = ", ".join(
        f"{name} {figures['per_class'][name]['dice']:.3f}"
        for name in labels[:6]
        if figures["per_class"][name]["dice"] is not None
    )
    return (
        f"mIoU {figures['miou']:.3f}, pixel accuracy {figures['pixel_accuracy']:.2%} on "
        f"{figures['pictures']:,} pictures; Dice: {each}"
    )


def round_or_none(value: torch.Tensor) -> float | None:
    """Round to five decimals; NaN, which these pictures cannot determine, becomes None."""
    return None if value.isnan() else round(float(value), 5)
