"""Which layers of a network can be explained: their maps, and what each would cost.

The cost is measured in torch on this machine: a forward pass and the gradient down to the layer,
over a forward pass alone; a closed form needs no gradient. Knows nothing of ONNX.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.gradcam import plan as plans
from training.gradcam import reference as gradcam


@dataclass(frozen=True)
class Row:
    """One layer that can be chosen."""

    name: str
    kind: str
    channels: int
    height: int
    width: int
    compiler: str
    cost: float


def candidates(model: nn.Module, network: nn.Module, image: torch.Tensor) -> dict[str, torch.Size]:
    """Every layer that runs once and puts out a map larger than 1x1, with the map's shape."""
    shapes: dict[str, torch.Size] = {}
    runs: dict[str, int] = {}
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:

                def note(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                    runs[name] = runs.get(name, 0) + 1
                    if isinstance(output, torch.Tensor):
                        shapes[name] = output.shape

                stack.enter_context(gradcam.hooked(module, note))
        model(image)
    return {
        name: shape
        for name, shape in shapes.items()
        if runs[name] == 1 and len(shape) == 4 and shape[2] * shape[3] > 1
    }


def survey(
    model: nn.Module, network: nn.Module, image: torch.Tensor, depth: int | None = 2
) -> list[Row]:
    """Each layer down to a depth of names, in the order they run."""
    gradcam.prepare(model)
    found = candidates(model, network, image)
    if depth is not None:
        found = {name: shape for name, shape in found.items() if name.count(".") < depth}
    if not found:
        raise UserError("No layer of this network puts out a map: Grad-CAM has nothing to show.")
    forward = timed(lambda: model(image))
    rows = []
    for name, shape in found.items():
        try:
            plan = plans.make(model, network, name, image[:2])
        except RuntimeError:  # the logits don't depend on this layer's output
            continue
        cost = 1.0 if plan.closed else descent(model, network.get_submodule(name), image) / forward
        kind = type(network.get_submodule(name)).__name__
        rows.append(Row(name, kind, shape[1], shape[2], shape[3], plan.compiler, cost))
    return rows


def descent(model: nn.Module, layer: nn.Module, image: torch.Tensor) -> float:
    """Seconds of a pass with the gradient of one target at the layer."""
    target = torch.zeros(len(image), 1, dtype=torch.int64)
    return timed(lambda: gradcam.explain(model, image, target, layer))


def timed(call: Callable[[], object], rounds: int = 3) -> float:
    """The fastest of a few calls, in seconds."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)
