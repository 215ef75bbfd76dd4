"""The last layer of a network: found, given dropout, made of one neuron into two labels.

Knows nothing of which network it is.
"""

import torch
from torch import nn

from training.errors import UserError


def find_last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and layer of the last one with weights, in the order they stand in the network."""
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise UserError(f"{type(network).__name__} has neither a linear nor a convolutional layer.")
    return layers[-1]


def add_dropout(network: nn.Module, share: float) -> None:
    """Dropout before the last layer."""
    name, layer = find_last_layer(network)
    network.set_submodule(name, nn.Sequential(nn.Dropout(share), layer))


@torch.no_grad()
def split_neuron(network: nn.Module) -> None:
    """One neuron z becomes the two logits -z/2 and z/2, whose softmax is z's sigmoid."""
    name, layer = find_last_layer(network)
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise UserError("Only a linear layer of one neuron can become two labels.")
    two = nn.Linear(layer.in_features, 2)
    two.weight.copy_(torch.cat([-layer.weight, layer.weight]) / 2)
    two.bias.copy_(torch.cat([-layer.bias, layer.bias]) / 2)
    network.set_submodule(name, two)
