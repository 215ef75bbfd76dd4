"""The last layer of any network: find it, add dropout, turn one output neuron into two logits."""

import torch
from torch import nn

from training.errors import UserError


def find_last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and module of the last linear or convolutional layer, in registration order."""
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise UserError(f"{type(network).__name__} has no linear or convolutional layer.")
    return layers[-1]


def add_dropout(network: nn.Module, share: float) -> None:
    """Insert dropout before the last layer."""
    name, layer = find_last_layer(network)
    network.set_submodule(name, nn.Sequential(nn.Dropout(share), layer))


@torch.no_grad()
def split_neuron(network: nn.Module) -> None:
    """Replace one neuron z by the two logits -z/2 and z/2, whose softmax is sigmoid(z)."""
    name, layer = find_last_layer(network)
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise UserError("one_neuron needs a network whose last layer is linear with one output.")
    two = nn.Linear(layer.in_features, 2)
    two.weight.copy_(torch.cat([-layer.weight, layer.weight]) / 2)
    two.bias.copy_(torch.cat([-layer.bias, layer.bias]) / 2)
    network.set_submodule(name, two)
