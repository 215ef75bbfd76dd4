"""Networks by name, and the whole that is trained and exported: pixels in, logits out."""

import difflib
import importlib
import os
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.config import Config, located
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels, Preprocess
from training.networks import heads, weights
from training.networks import timm_zoo as timms
from training.networks import torchvision_zoo as classics
from training.networks.lenet import LeNet5


class Classifier(nn.Module):
    """(N, H, W, C) pixels of 0..255 to (N, K) logits."""

    def __init__(self, wanted: Input, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = Preprocess(wanted)
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.preprocess(image))
        return logits

    @torch.no_grad()
    def predict(self, pictures: Pixels) -> NDArray[np.float32]:
        """The same from array to array, without a gradient."""
        logits: NDArray[np.float32] = self(torch.tensor(pictures)).numpy()
        return logits


def build(architecture: str, classes: int, wanted: Input, options: dict[str, Any]) -> Classifier:
    """An untrained network of this name for so many classes."""
    if architecture == "lenet5":
        return Classifier(wanted, LeNet5(classes, wanted.channels, **options))
    if architecture in classics.names():
        return Classifier(wanted, classics.build(architecture, classes, **options))
    if architecture.startswith("timm:"):
        return Classifier(wanted, timms.build(architecture.removeprefix("timm:"), classes, options))
    if ":" in architecture:
        return Classifier(wanted, from_user(architecture, options))
    raise unknown(architecture)


def unknown(architecture: str) -> UserError:
    """The sentence for a name that nothing has."""
    near = difflib.get_close_matches(architecture, ["lenet5", *classics.names()])
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UserError(f"There is no architecture {architecture!r}{hint}")


def prepare(config: Config, classes: int) -> tuple[Classifier, set[str]]:
    """The network a config starts from, and which of its parameters are the new head.

    With weights, what doesn't fit the number of classes is fresh; without, the head is the last
    layer.
    """
    outputs = 1 if config.one_neuron else classes
    if config.one_neuron and classes != 2:
        raise UserError(f"One neuron tells two labels apart, not {classes}.")
    model = build(config.architecture, outputs, config.input, config.options)
    fresh = {f"{heads.last(model.network)[0]}.{kind}" for kind in ("weight", "bias")}
    if config.weights:
        fresh |= set(weights.fill(model.network, pretrained(config), partly=True))
    named = {id(p): name for name, p in model.network.named_parameters() if name in fresh}
    if config.dropout:
        heads.add_dropout(model.network, config.dropout)
    return model, {name for name, p in model.network.named_parameters() if id(p) in named}


def pretrained(config: Config) -> weights.State:
    """The state dict that a config starts from: a file's, or torchvision's own (fetched)."""
    assert config.weights is not None
    if config.weights != "torchvision":
        return weights.read(located(config.weights))
    if config.architecture not in classics.names():
        raise UserError(f"torchvision has no weights for {config.architecture!r}.")
    return classics.pretrained(config.architecture)


def from_user(place: str, options: dict[str, Any]) -> nn.Module:
    """What `package.module:function` returns: a network of (N, C, H, W) to logits (N, K)."""
    module, _, function = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        built = getattr(importlib.import_module(module), function)(**options)
    except (ImportError, AttributeError) as fault:
        raise UserError(f"{place} can't be found: {fault}.") from fault
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(built, nn.Module):
        raise UserError(f"{place} returned {type(built).__name__}, not a torch.nn.Module.")
    return built


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters())


def own_layer(network: nn.Module) -> str | None:
    """The layer that is known to suit an architecture, if one is."""
    return "features.act2" if isinstance(network, LeNet5) else classics.layer(network)


def default_layer(network: nn.Module) -> str:
    """The last convolutional stage's output after its norm and activation, never a pool."""
    layer = own_layer(network)
    if layer is None:
        raise UserError(
            f"{type(network).__name__} has no target layer of its own: --layer names one."
        )
    return layer
