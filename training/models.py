"""Networks by name, and the whole that is trained and exported: pixels in, logits out."""

from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.lenet import LeNet5
from training.pictures import Input, Preprocess


class Classifier(nn.Module):
    """(N, H, W, C) pixels of 0..255 to (N, K) logits."""

    def __init__(self, wanted: Input, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = Preprocess(wanted)
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.preprocess(image))
        return logits


def build(architecture: str, classes: int, wanted: Input, options: dict[str, Any]) -> Classifier:
    """An untrained network of this name for so many classes."""
    if architecture == "lenet5":
        return Classifier(wanted, LeNet5(classes, wanted.channels, **options))
    raise UserError(f"There is no architecture {architecture!r}.")


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters())


def default_layer(architecture: str, network: nn.Module) -> str:
    """The last convolutional stage's output after its norm and activation, never a pool."""
    if architecture == "lenet5":
        return "features.act2"
    raise UserError(f"No target layer is known for {architecture!r}; name one with --layer.")
