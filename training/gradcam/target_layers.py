"""The layers of a network that Grad-CAM can target, with their maps and their cost.

The cost is measured in torch on this machine: the time of a forward pass with the gradient down to
the layer, divided by that of a forward pass alone. A closed form needs no gradient and costs 1.
Knows nothing of ONNX.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.find_layout import find_maps
from training.gradcam.map_layout import MapLayout, view_map
from training.gradcam.plan import make_plan
from training.gradcam.reference import NoGradientError, compute_gradcam, prepare_network


@dataclass(frozen=True)
class TargetLayer:
    """A layer that Grad-CAM can target. `cost` is relative to a prediction."""

    name: str
    kind: str
    channels: int
    height: int
    width: int
    compiler: str
    cost: float
    layout: MapLayout


def list_target_layers(
    model: nn.Module, network: nn.Module, image: torch.Tensor, depth: int | None = 2
) -> list[TargetLayer]:
    """The possible target layers down to a depth of module names, in execution order.

    Raises:
        UserError: no layer outputs a map.
    """
    prepare_network(model)
    found = find_maps(model, network, image)
    if depth is not None:
        found = {name: known for name, known in found.items() if name.count(".") < depth}
    if not found:
        raise UserError("No layer of this network outputs a map, so Grad-CAM has nothing to show.")
    forward = time_fastest_call(lambda: model(image))
    rows = []
    for name, (layout, shape) in found.items():
        kind = type(network.get_submodule(name)).__name__
        with view_map(network, name, layout) as module:
            try:
                plan = make_plan(model, network, module, image[:2])
            except NoGradientError:
                continue
            cost = (
                1.0
                if plan.is_closed_form
                else time_gradient(model, network.get_submodule(module), image) / forward
            )
        rows.append(TargetLayer(name, kind, *shape, plan.compiler, cost, layout))
    return rows


def time_gradient(model: nn.Module, layer: nn.Module, image: torch.Tensor) -> float:
    """The seconds of a pass with the gradient of one target at the layer."""
    target = torch.zeros(len(image), 1, dtype=torch.int64)
    return time_fastest_call(lambda: compute_gradcam(model, image, target, layer))


def time_fastest_call(call: Callable[[], object], rounds: int = 3) -> float:
    """The seconds of the fastest of a few calls."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
