"""Losses by name. Knows nothing of data or epochs."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from training.config import Config
from training.imaging.preprocessing import IGNORED

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(config: Config, shares: torch.Tensor | None) -> LossFunction:
    """The config's loss of logits (N, K) and labels.

    `shares` (K,) are the class frequencies if classes are weighed by them.
    """
    weight = None
    if shares is not None:
        weight = 1 / shares.clamp_min(1e-6)
        weight = weight / (weight * shares).sum()  # so that a picture's mean weight is 1
    smoothing = config.label_smoothing
    if config.task == "segmentation":
        entropy = nn.CrossEntropyLoss(weight, ignore_index=IGNORED, label_smoothing=smoothing)
        return lambda logits, masks: (
            entropy(logits, masks.long()) + compute_dice_loss(logits, masks)
        )
    if config.task == "multilabel":
        positive = None if shares is None else (1 - shares) / shares.clamp_min(1e-6)
        return nn.BCEWithLogitsLoss(pos_weight=positive)
    if config.one_neuron:  # logits (N, 1) of the second label
        positive = None if shares is None else shares[0] / shares[1].clamp_min(1e-6)
        binary = nn.BCEWithLogitsLoss(pos_weight=positive)
        return lambda logits, labels: binary(logits[:, 0], (1 - smoothing) * labels + smoothing / 2)
    if config.loss == "focal":
        return lambda logits, labels: compute_focal_loss(logits, labels, weight)
    return nn.CrossEntropyLoss(weight, label_smoothing=smoothing)


def compute_focal_loss(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    """Focal loss with gamma 2 (Lin et al. 2017): confident pictures count less."""
    each = F.cross_entropy(logits, labels, weight, reduction="none")  # (N,)
    sure = F.softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    return ((1 - sure) ** 2 * each).mean()


def compute_dice_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """1 less the mean soft Dice (Milletari et al. 2016) of the classes in the masks (N, H, W).

    Pixels of the whole batch count together, so that a picture without a class says nothing of it.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    counted = (masks != IGNORED)[:, None]  # (N, 1, H, W)
    p = logits.float().softmax(1) * counted  # (N, K, H, W)
    truth = (masks[:, None] == classes) & counted
    both = (p * truth).sum((0, 2, 3))  # (K,)
    sizes = p.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    here = truth.any(3).any(2).any(0)
    dice = (2 * both + 1) / (sizes + 1)
    return 1 - (dice * here).sum() / here.sum().clamp_min(1)
