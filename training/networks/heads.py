"""The last layer of any network: find it, add dropout, remove an activation, split one neuron."""

from contextlib import ExitStack

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


def find_output_module(
    model: nn.Module, network: nn.Module, image: torch.Tensor
) -> tuple[str, nn.Module] | None:
    """Name and module of the layer whose output is the model's, if it runs once in a pass."""
    calls: list[tuple[str, nn.Module, object]] = []
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name and not list(module.children()):

                def note(m: nn.Module, _: object, output: object, name: str = name) -> None:
                    calls.append((name, m, output))

                stack.callback(module.register_forward_hook(note).remove)
        logits = model(image)
    for name, module, output in calls:
        if output is logits and sum(m is module for _, m, _ in calls) == 1:
            return name, module
    return None


def remove_activation(
    model: nn.Module, network: nn.Module, image: torch.Tensor, kind: type[nn.Module]
) -> None:
    """Let the network return logits if its last layer is an activation of this kind."""
    last = find_output_module(model, network, image)
    if last is not None and isinstance(last[1], kind):
        network.set_submodule(last[0], nn.Identity())


@torch.no_grad()
def split_linear(layer: nn.Linear) -> nn.Linear:
    """A layer with the two outputs -z/2 and z/2 in the place of a layer with the output z."""
    two = nn.Linear(layer.in_features, 2, bias=layer.bias is not None)
    two.weight.copy_(torch.cat([-layer.weight, layer.weight]) / 2)
    if layer.bias is not None:
        two.bias.copy_(torch.cat([-layer.bias, layer.bias]) / 2)
    return two
