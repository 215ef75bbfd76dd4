"""The cheapest exact way to compute the weights of a map's channels for a target layer.

Grad-CAM weighs the map A by alpha, the mean of G = dy/dA over the map; HiResCAM by G itself.
Shortcuts avoid part of the backward pass:

- pool: if a pooling layer follows, the gradient summed at its output gives alpha. There is no such
  shortcut to G, which the pool shares out among its inputs.
- linear: if a linear layer takes the pooled map, alpha is the gradient at its output, times its
  weights summed over positions. G is the gradient times all its weights, taken back through the
  pool. If the layer's output is the logits, alpha is a row of a constant matrix. So is G if there
  is no pool.
- conv: if a 1x1 convolution computes a map of logits, alpha is a row of its weights, scaled. G is
  that row with one scale per position.

A shortcut is guessed from the order of calls. It is used only if it gives the definition's numbers
in double precision, with the map at three scales. Where G is the same at all positions it is alpha,
so both methods draw the same map, and the plan is Grad-CAM's. Knows nothing of tracing or ONNX.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.reference import (
    Method,
    attach_hook,
    copy_differentiably,
    find_layer,
    get_single_map,
    make_exact_copy,
    use_64_bits,
)
from training.gradcam.shortcuts import (
    MAX_ERROR,
    ForwardRecord,
    has_equal_gradients,
    list_candidates,
    measure_deviations,
    scatter,
)

SAME_MAP = (
    "HiResCAM is Grad-CAM here, because only the mean of each channel reaches the logits. "
    "So the method is gradcam."
)


@dataclass(frozen=True)
class Plan:
    """The module at whose output the gradient is taken, and the way from it to the weights."""

    layer: str
    method: Method  # of the map
    kind: str  # "map", "pool", "linear" or "conv"
    pivot: str  # name of the module at whose output the gradient is taken
    seed: str | None  # name of the linear layer whose output is the logits, if there is one
    channels: int  # K of the map
    height: int  # h of the map
    width: int  # w of the map
    error: float  # largest deviation from the definition, over the largest weight
    reason: str = ""  # why the method is not the one that was asked for

    @property
    def area(self) -> int:
        """The number of positions of the map."""
        return self.height * self.width

    @property
    def is_closed_form(self) -> bool:
        """Whether the weights need no backward pass through the head."""
        return self.kind == "conv" or (self.kind == "linear" and self.pivot == self.seed)

    @property
    def compiler(self) -> str:
        return "closed-form" if self.is_closed_form else "backward"


def make_plan(
    model: nn.Module,
    network: nn.Module,
    layer: str,
    image: torch.Tensor,
    method: Method = "gradcam",
) -> Plan:
    """The cheapest exact plan for a layer, verified on these pictures (N, H, W, C).

    Raises:
        UserError: the layer does not exist, or its output is not a usable map.
    """
    find_layer(network, layer)
    exact = make_exact_copy(model)
    names = {m: n for n, m in model.named_modules()}
    inside = exact.get_submodule(names[network])

    def run(size: float | torch.Tensor) -> ForwardRecord:
        return record_forward(exact, inside, layer, image, size)

    try:
        record = run(1.0)
    except (RuntimeError, TypeError) as fault:
        raise UserError(
            "The network does not run in 64 bits, in which the maps are checked: "
            f"{str(fault).splitlines()[0]}. Make constants with x.new_tensor(...) or "
            "register_buffer(...), without dtype=torch.float32 and float()."
        ) from fault
    _, k, h, w = record.a.shape
    reason = ""
    if method == "hirescam" and all(map(has_equal_gradients, (record, run(scatter(h, w))))):
        method, reason = "gradcam", SAME_MAP
    candidates, seed = list_candidates(record, method), find_seed(record)
    errors = dict.fromkeys(candidates, 0.0)
    for size in (1.0, 0.3, 3.0):
        for candidate, error in measure_deviations(run(size), candidates, method).items():
            errors[candidate] = max(errors[candidate], error)
    for (kind, name), error in errors.items():
        if error < MAX_ERROR:
            return Plan(layer, method, kind, name, seed, k, h, w, error, reason)
    return Plan(layer, method, "map", layer, seed, k, h, w, 0.0, reason)


def find_seed(record: ForwardRecord) -> str | None:
    """The name of the linear layer whose output is the logits, or None."""
    found = (
        name
        for name, module, output in reversed(record.after)
        if isinstance(module, nn.Linear) and output is record.logits
    )
    return next(found, None)


def record_forward(
    model: nn.Module,
    network: nn.Module,
    layer: str,
    image: torch.Tensor,
    size: float | torch.Tensor,
) -> ForwardRecord:
    """Run the model with the layer's map times `size`, and record the calls after it."""
    maps: list[torch.Tensor] = []
    after: list[tuple[str, nn.Module, torch.Tensor]] = []
    target = network.get_submodule(layer)

    def leaf(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        maps.append((size * output.detach()).requires_grad_())
        return copy_differentiably(maps[-1])

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(use_64_bits())
        stack.enter_context(attach_hook(target, leaf))
        for name, module in network.named_modules():
            if name and module is not target and not list(module.children()):

                def note(m: nn.Module, _: Any, output: torch.Tensor, name: str = name) -> None:
                    if maps and isinstance(output, torch.Tensor):
                        after.append((name, m, output))

                stack.enter_context(attach_hook(module, note))
        logits = model(image)
    counts = {name: sum(n == name for n, *_ in after) for name, *_ in after}
    once = [call for call in after if counts[call[0]] == 1 and call[2].requires_grad]
    return ForwardRecord(get_single_map(maps), once, logits)
