"""The classifier that is trained and exported (pixels to logits), built by architecture name."""

import difflib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.config import Config, resolve_path
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels, Preprocessing
from training.networks.heads import (
    add_dropout,
    find_last_layer,
    find_output_module,
    split_linear,
)
from training.networks.lenet import LeNet5
from training.networks.timm_zoo import TIMM_PREFIX, build_timm, find_timm_layer, get_timm_input
from training.networks.torchvision_zoo import (
    build_torchvision,
    download_torchvision_weights,
    find_torchvision_layer,
    get_torchvision_input,
    list_torchvision_names,
)
from training.networks.unet import UNet
from training.networks.user_network import build_user_network
from training.networks.weight_files import StateDict, read_state_dict
from training.networks.weights import load_into_network


class Classifier(nn.Module):
    """A network behind its preprocessing: pixels (N, H, W, C) of 0..255 to logits (N, K).

    If it segments it classifies each pixel, and its logits are (N, K, H, W).
    If it splits its network's one neuron z, its logits are -z/2 and z/2.
    """

    def __init__(self, input_spec: Input, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = Preprocessing(input_spec)
        self.network = network
        self.splits_neuron = False

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.preprocess(image))
        if self.splits_neuron:
            logits = torch.cat([-logits, logits], 1) / 2  # (N, 1) to (N, 2)
        return logits

    @torch.no_grad()
    def predict(self, pictures: Pixels) -> NDArray[np.float32]:
        """Logits of pixels (N, H, W, C), as arrays and without gradients."""
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
    if architecture == "unet":
        return Classifier(input_spec, UNet(classes, input_spec.channels, **options))
    if architecture in list_torchvision_names():
        return Classifier(input_spec, build_torchvision(architecture, classes, **options))
    if architecture.startswith(TIMM_PREFIX):
        return Classifier(
            input_spec, build_timm(architecture.removeprefix(TIMM_PREFIX), classes, options)
        )
    if ":" in architecture:
        return Classifier(input_spec, build_user_network(architecture, options))
    raise make_unknown_error(architecture)


def make_unknown_error(architecture: str) -> UserError:
    """The error for an unknown architecture, with the names that are close to it."""
    near = difflib.get_close_matches(architecture, ["lenet5", "unet", *list_torchvision_names()])
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UserError(
        f"There is no architecture {architecture!r}.{hint} Accepted are lenet5, unet, "
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
    if config.task == "segmentation":
        return_logits(model.network)
    fresh = {f"{find_last_layer(model.network)[0]}.{kind}" for kind in ("weight", "bias")}
    if config.weights:
        fresh |= set(load_into_network(model.network, load_pretrained(config), partly=True))
    named = {id(p): name for name, p in model.network.named_parameters() if name in fresh}
    if config.dropout:
        add_dropout(model.network, config.dropout)
    return model, {name for name, p in model.network.named_parameters() if id(p) in named}


def return_logits(network: nn.Module) -> None:
    """Let a segmentation network return its logits alone, as torchvision's do not."""
    network.register_forward_hook(pick_logits)


def pick_logits(_: nn.Module, __: Any, output: Any) -> Any:
    """The logits in torchvision's dictionary of outputs; other outputs stay as they are."""
    return output["out"] if isinstance(output, dict) and "out" in output else output


def split_neuron(model: Classifier, image: torch.Tensor) -> None:
    """Replace one neuron z by the two logits -z/2 and z/2, whose softmax is sigmoid(z).

    The pictures (N, H, W, C) show where z comes from: of a linear layer, its weights are split,
    which makes the cheapest graph.
    """
    last = find_output_module(model, model.network, image)
    if last is not None and isinstance(last[1], nn.Linear):
        model.network.set_submodule(last[0], split_linear(last[1]))
    else:
        model.splits_neuron = True


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


def get_default_input(architecture: str) -> Input:
    """The input that the architecture's pretrained weights were trained with, if it is known."""
    if architecture == "lenet5":
        return Input("L", 28, 28, 28, mean=(0.0,), std=(1.0,))
    if architecture in list_torchvision_names():
        return get_torchvision_input(architecture)
    if architecture.startswith(TIMM_PREFIX):
        return get_timm_input(architecture.removeprefix(TIMM_PREFIX))
    return Input()


def find_known_layer(network: nn.Module) -> str | None:
    """The default target layer of a known architecture, or None."""
    if isinstance(network, LeNet5):
        return "features.act2"
    if isinstance(network, UNet):
        return "bottleneck"
    return find_torchvision_layer(network) or find_timm_layer(network)


def get_default_layer(network: nn.Module) -> str:
    """The output of the last convolutional stage, after norm and activation and before pooling."""
    layer = find_known_layer(network)
    if layer is None:
        raise UserError(
            f"{type(network).__name__} has no default target layer. List its layers with "
            "`python -m training layers`, and name one with --layer."
        )
    return layer
