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

from training.config import Config, resolve_path
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels, Preprocessing
from training.networks.heads import add_dropout, find_last_layer
from training.networks.lenet import LeNet5
from training.networks.timm_zoo import build_timm
from training.networks.torchvision_zoo import (
    build_torchvision,
    download_torchvision_weights,
    find_torchvision_layer,
    list_torchvision_names,
)
from training.networks.weights import StateDict, load_into_network, read_state_dict


class Classifier(nn.Module):
    """(N, H, W, C) pixels of 0..255 to (N, K) logits."""

    def __init__(self, wanted: Input, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = Preprocessing(wanted)
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.preprocess(image))
        return logits

    @torch.no_grad()
    def predict(self, pictures: Pixels) -> NDArray[np.float32]:
        """The same from array to array, without a gradient."""
        logits: NDArray[np.float32] = self(torch.tensor(pictures)).numpy()
        return logits


def build_classifier(
    architecture: str, classes: int, wanted: Input, options: dict[str, Any]
) -> Classifier:
    """An untrained network of this name for so many classes."""
    if architecture == "lenet5":
        return Classifier(wanted, LeNet5(classes, wanted.channels, **options))
    if architecture in list_torchvision_names():
        return Classifier(wanted, build_torchvision(architecture, classes, **options))
    if architecture.startswith("timm:"):
        return Classifier(wanted, build_timm(architecture.removeprefix("timm:"), classes, options))
    if ":" in architecture:
        return Classifier(wanted, build_user_network(architecture, options))
    raise make_unknown_error(architecture)


def make_unknown_error(architecture: str) -> UserError:
    """The sentence for a name that nothing has."""
    near = difflib.get_close_matches(architecture, ["lenet5", *list_torchvision_names()])
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UserError(f"There is no architecture {architecture!r}{hint}")


def prepare_classifier(config: Config, classes: int) -> tuple[Classifier, set[str]]:
    """The network a config starts from, and which of its parameters are the new head.

    With weights, what doesn't fit the number of classes is fresh; without, the head is the last
    layer.
    """
    outputs = 1 if config.one_neuron else classes
    if config.one_neuron and classes != 2:
        raise UserError(f"One neuron tells two labels apart, not {classes}.")
    model = build_classifier(config.architecture, outputs, config.input, config.options)
    fresh = {f"{find_last_layer(model.network)[0]}.{kind}" for kind in ("weight", "bias")}
    if config.weights:
        fresh |= set(load_into_network(model.network, load_pretrained(config), partly=True))
    named = {id(p): name for name, p in model.network.named_parameters() if name in fresh}
    if config.dropout:
        add_dropout(model.network, config.dropout)
    return model, {name for name, p in model.network.named_parameters() if id(p) in named}


def load_pretrained(config: Config) -> StateDict:
    """The state dict that a config starts from: a file's, or torchvision's own (fetched)."""
    assert config.weights is not None
    if config.weights != "torchvision":
        return read_state_dict(resolve_path(config.weights))
    if config.architecture not in list_torchvision_names():
        raise UserError(f"torchvision has no weights for {config.architecture!r}.")
    return download_torchvision_weights(config.architecture)


def build_user_network(place: str, options: dict[str, Any]) -> nn.Module:
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


def compute_probabilities(
    logits: torch.Tensor, multilabel: bool = False, temperature: float = 1.0
) -> torch.Tensor:
    """What logits (N, K) mean: softmax over the classes, or a sigmoid for each label."""
    if temperature != 1:
        logits = logits / temperature
    return logits.sigmoid() if multilabel else logits.softmax(1)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters())


def find_known_layer(network: nn.Module) -> str | None:
    """The layer that is known to suit an architecture, if one is."""
    return "features.act2" if isinstance(network, LeNet5) else find_torchvision_layer(network)


def get_default_layer(network: nn.Module) -> str:
    """The last convolutional stage's output after its norm and activation, never a pool."""
    layer = find_known_layer(network)
    if layer is None:
        raise UserError(
            f"{type(network).__name__} has no target layer of its own: --layer names one."
        )
    return layer
