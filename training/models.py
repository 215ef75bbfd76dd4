"""Networks by name, and the whole that is trained and exported: pixels in, logits out."""

from typing import Any

import torch
import torchvision
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
    if architecture in torchvision.models.list_models(torchvision.models):
        return Classifier(wanted, classic(architecture, classes, **options))
    raise UserError(f"There is no architecture {architecture!r}.")


def classic(architecture: str, classes: int, stem: str = "imagenet") -> nn.Module:
    """A torchvision classifier; `stem="small"` leaves pictures of 64 pixels a map of 4x4."""
    extra: dict[str, Any] = {}
    if architecture in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": True}
    network: nn.Module = torchvision.models.get_model(
        architecture, weights=None, num_classes=classes, **extra
    )
    if isinstance(network, torchvision.models.DenseNet):
        network.features.add_module("relu5", nn.ReLU())  # what its forward does, as a module
    if stem == "small":
        if not isinstance(network, torchvision.models.ResNet):
            raise UserError(f"Only ResNets have a small stem, not {architecture}.")
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, 2, 1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters())


def default_layer(architecture: str, network: nn.Module) -> str:
    """The last convolutional stage's output after its norm and activation, never a pool."""
    if architecture == "lenet5":
        return "features.act2"
    if isinstance(network, torchvision.models.ResNet):
        return "layer4"
    raise UserError(f"No target layer is known for {architecture!r}; name one with --layer.")
