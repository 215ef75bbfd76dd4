"""The layers of a network that a map can explain, with the methods, the sizes and the cost.

The cost is measured in torch on this machine: the time of a forward pass with the gradient down to
the layer, divided by that of a forward pass alone. A closed form needs no gradient and costs 1.
Knows nothing of ONNX.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.find_layout import find_maps
from training.gradcam.map_layout import MapLayout, view_map
from training.gradcam.plan import make_plan
from training.gradcam.reference import (
    Method,
    NoGradientError,
    compute_gradcam,
    find_layer,
    prepare_network,
)


@dataclass(frozen=True)
class TargetLayer:
    """A layer and a method that can explain it. `cost` is relative to a prediction."""

    name: str
    method: Method
    kind: str
    channels: int
    height: int
    width: int
    compiler: str
    cost: float
    layout: MapLayout


def list_target_layers(
    model: nn.Module,
    network: nn.Module,
    image: torch.Tensor,
    depth: int | None = 2,
    methods: Sequence[Method] = ("gradcam",),
    only: str | None = None,
) -> list[TargetLayer]:
    """The possible target layers down to a depth of module names, in execution order.

    Each has a row per method, but a single one where both methods draw the same map. With `only`
    the list has that layer alone.

    Raises:
        UserError: no layer outputs a map, or the only one cannot be explained.
    """
    prepare_network(model)
    maps = find_maps(model, network, image)
    found = {name: layout for name, (layout, _) in maps.items()}
    if only:
        find_layer(network, only)
        found = {only: found.get(only, MapLayout())}  # what is wrong with it, its plan will say
    elif depth is not None:
        found = {name: layout for name, layout in found.items() if name.count(".") < depth}
    if not found:
        raise UserError("No layer of this network outputs a map, so Grad-CAM has nothing to show.")
    forward = time_fastest_call(lambda: model(image))
    rows = []
    for name, layout in found.items():
        kind = type(network.get_submodule(name)).__name__
        with view_map(network, name, layout) as module:
            try:
                plans = [make_plan(model, network, module, image[:2], method) for method in methods]
            except NoGradientError:
                if only:
                    raise
                continue
            backward = time_gradient(model, network.get_submodule(module), image) / forward
        for plan in {plan.method: plan for plan in plans}.values():
            cost = 1.0 if plan.is_closed_form else backward
            sizes = (plan.channels, plan.height, plan.width)
            rows.append(TargetLayer(name, plan.method, kind, *sizes, plan.compiler, cost, layout))
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
