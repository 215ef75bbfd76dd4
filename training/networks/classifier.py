"""The classifier that is trained and exported (pixels to logits), built by architecture name."""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
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
    """A network behind its preprocessing: pixels (N, H, W, C) of 0..255 to logits (N, K)."""

    def __init__(self, input_spec: Input, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = Preprocessing(input_spec)
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.preprocess(image))
        return logits

    @torch.no_grad()
    def predict(self, pictures: Pixels) -> NDArray[np.float32]:
        """Logits (N, K) of pixels (N, H, W, C), as arrays and without gradients."""
        logits: NDArray[np.float32] = self(torch.tensor(pictures)).numpy()
        return logits


def build_classifier(
    architecture: str, classes: int, input_spec: Input, options: dict[str, Any]
) -> Classifier:
    """An untrained classifier of the named architecture with `classes` outputs.

    Raises:
        UserError: the name is unknown, or the architecture rejects an option.
    """
    if architecture == "lenet5":
        return Classifier(input_spec, LeNet5(classes, input_spec.channels, **options))
    if architecture in list_torchvision_names():
        return Classifier(input_spec, build_torchvision(architecture, classes, **options))
    if architecture.startswith("timm:"):
        return Classifier(
            input_spec, build_timm(architecture.removeprefix("timm:"), classes, options)
        )
    if ":" in architecture:
        return Classifier(input_spec, build_user_network(architecture, options))
    raise make_unknown_error(architecture)


def make_unknown_error(architecture: str) -> UserError:
    """The error for an unknown architecture, with the names that are close to it."""
    near = difflib.get_close_matches(architecture, ["lenet5", *list_torchvision_names()])
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UserError(
        f"There is no architecture {architecture!r}.{hint} Accepted are lenet5, "
        "torchvision's names, timm:<name> and package.module:function."
    )


def prepare_classifier(config: Config, classes: int) -> tuple[Classifier, set[str]]:
    """The network that a config starts from, and the names of the parameters of its new head.

    The head is the last layer. If the config has weights, parameters whose shape does not match
    them belong to the head too.
    """
    outputs = 1 if config.one_neuron else classes
    if config.one_neuron and classes != 2:
        raise UserError(f"one_neuron needs exactly two labels, the data set has {classes}.")
    model = build_classifier(config.architecture, outputs, config.input, config.options)
    fresh = {f"{find_last_layer(model.network)[0]}.{kind}" for kind in ("weight", "bias")}
    if config.weights:
        fresh |= set(load_into_network(model.network, load_pretrained(config), partly=True))
    named = {id(p): name for name, p in model.network.named_parameters() if name in fresh}
    if config.dropout:
        add_dropout(model.network, config.dropout)
    return model, {name for name, p in model.network.named_parameters() if id(p) in named}


def load_pretrained(config: Config) -> StateDict:
    """The state dict that a config starts from: of a file, or downloaded by torchvision."""
    assert config.weights is not None
    if config.weights != "torchvision":
        return read_state_dict(resolve_path(config.weights))
    if config.architecture not in list_torchvision_names():
        raise UserError(
            f"torchvision has no weights for {config.architecture!r}. Set `weights` to a file."
        )
    return download_torchvision_weights(config.architecture)


def build_user_network(place: str, options: dict[str, Any]) -> nn.Module:
    """The network that `package.module:function` returns: (N, C, H, W) to logits (N, K)."""
    module, _, function = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module), function)
    except Exception as error:  # the module is the user's program
        raise UserError(f"{place} cannot be imported: {type(error).__name__}: {error}.") from error
    else:
        built = call_user_function(place, build, options)
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(built, nn.Module):
        raise UserError(
            f"{place} must return a torch.nn.Module, it returned {type(built).__name__}."
        )
    return built


def call_user_function(place: str, build: Callable[..., Any], options: dict[str, Any]) -> Any:
    """What the user's function returns; an error in it is reported in one sentence."""
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise UserError(
            f"{place} is called with the config's options ({', '.join(options) or 'none'}), "
            f"but {error}."
        ) from error
    try:
        return build(**options)
    except Exception as error:
        raise UserError(f"{place} raised {type(error).__name__}: {error}") from error


def compute_probabilities(
    logits: torch.Tensor, multilabel: bool = False, temperature: float = 1.0
) -> torch.Tensor:
    """Probabilities of logits (N, K): softmax over the classes, or a sigmoid per label."""
    if temperature != 1:
        logits = logits / temperature
    return logits.sigmoid() if multilabel else logits.softmax(1)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


def find_known_layer(network: nn.Module) -> str | None:
    """The default target layer of a known architecture, or None."""
    return "features.act2" if isinstance(network, LeNet5) else find_torchvision_layer(network)


def get_default_layer(network: nn.Module) -> str:
    """The output of the last convolutional stage, after norm and activation and before pooling."""
    layer = find_known_layer(network)
    if layer is None:
        raise UserError(
            f"{type(network).__name__} has no default target layer. Name one with --layer."
        )
    return layer
