"""The cheapest exact way to compute alpha, Grad-CAM's channel weights, for a target layer.

alpha is the mean of dy/dA over the map A. Three shortcuts avoid part of the backward pass:

- pool: if a pooling layer follows, the gradient summed at its output gives the same number.
- linear: if a linear layer takes the pooled map, so does the gradient at its output, times its
  weights summed over positions. If its output is the logits, alpha is a row of a constant matrix.
- conv: if a 1x1 convolution computes a map of logits, alpha is a row of its weights, scaled.

A shortcut is guessed from the order of calls. It is used only if it gives the definition's alpha in
double precision, with the map at three scales. Knows nothing of tracing or ONNX.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.reference import (
    NoGradientError,
    attach_hook,
    copy_differentiably,
    find_layer,
    get_single_map,
    make_exact_copy,
    use_64_bits,
)

POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


@dataclass(frozen=True)
class Plan:
    """The module at whose output the gradient is taken, and the way from it to alpha."""

    layer: str
    kind: str  # "map", "pool", "linear" or "conv"
    pivot: str  # name of the module at whose output the gradient is taken
    seed: str | None  # name of the linear layer whose output is the logits, if there is one
    channels: int  # K of the map
    area: int  # h * w of the map
    error: float  # largest deviation from the definition, over the largest alpha

    @property
    def is_closed_form(self) -> bool:
        """Whether alpha needs no backward pass through the head."""
        return self.kind == "conv" or (self.kind == "linear" and self.pivot == self.seed)

    @property
    def compiler(self) -> str:
        return "closed-form" if self.is_closed_form else "backward"


def sum_over_positions(module: nn.Module, channels: int) -> torch.Tensor:
    """A head layer's weights, summed over the positions of each channel: (out, K)."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    weight = weight.detach()
    return weight.reshape(len(weight), channels, -1).sum(2)


def make_plan(model: nn.Module, network: nn.Module, layer: str, image: torch.Tensor) -> Plan:
    """The cheapest exact plan for a layer, verified on these pictures (N, H, W, C).

    Raises:
        UserError: the layer does not exist, or its output is not a usable map.
    """
    find_layer(network, layer)
    exact = make_exact_copy(model)
    names = {m: n for n, m in model.named_modules()}
    inside = exact.get_submodule(names[network])
    try:
        record = record_forward(exact, inside, layer, image, 1.0)
    except (RuntimeError, TypeError) as fault:
        raise UserError(
            "The network does not run in 64 bits, in which the maps are checked: "
            f"{str(fault).splitlines()[0]}. Make constants with x.new_tensor(...) or "
            "register_buffer(...), without dtype=torch.float32 and float()."
        ) from fault
    _, k, h, w = record.a.shape
    candidates: list[tuple[str, str]] = []
    for name, module, output in record.after:
        if isinstance(module, nn.Linear) and module.in_features % k == 0:
            candidates.append(("linear", name))
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            same = module.in_channels == k and output.shape[1] == record.logits.shape[1]
            candidates += [("conv", name)] if same and module.groups == 1 else []
    pools = [n for n, m, o in record.after if isinstance(m, POOLS) and o.shape[1] == k]
    candidates += [("pool", name) for name in reversed(pools)]
    seed = next(
        (
            n
            for n, m, o in reversed(record.after)
            if isinstance(m, nn.Linear) and o is record.logits
        ),
        None,
    )
    errors = dict.fromkeys(candidates, 0.0)
    for size in (1.0, 0.3, 3.0):
        record = record_forward(exact, inside, layer, image, size)
        for candidate, error in measure_deviations(record, candidates).items():
            errors[candidate] = max(errors[candidate], error)
    for (kind, name), error in errors.items():
        if error < 1e-9:
            return Plan(layer, kind, name, seed, k, h * w, error)
    return Plan(layer, "map", layer, seed, k, h * w, 0.0)


@dataclass
class ForwardRecord:
    """One forward pass: the map as a leaf, the outputs of modules after it, and the logits."""

    a: torch.Tensor
    after: list[tuple[str, nn.Module, torch.Tensor]]
    logits: torch.Tensor


def record_forward(
    model: nn.Module, network: nn.Module, layer: str, image: torch.Tensor, size: float
) -> ForwardRecord:
    """Run the model with the layer's map scaled by `size`, and record the calls after it."""
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


def measure_deviations(
    record: ForwardRecord, candidates: list[tuple[str, str]]
) -> dict[tuple[str, str], float]:
    """The deviation of each candidate's alpha from the definition, over the largest alpha."""
    outputs = {name: (module, output) for name, module, output in record.after}
    n, k, h, w = record.a.shape
    classes = torch.arange(n) % record.logits.shape[1]
    y = record.logits[torch.arange(n), classes].sum()
    at = [outputs[name][1] for _, name in candidates]
    if not y.requires_grad:
        raise NoGradientError
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        y, [record.a, *at], retain_graph=True, allow_unused=True
    )
    if gradients[0] is None:
        raise NoGradientError
    expected = gradients[0].mean((2, 3))  # (N, K)
    largest = expected.abs().max().clamp_min(1e-300)
    found = {}
    for (kind, name), gradient in zip(candidates, gradients[1:], strict=True):
        module, output = outputs[name]
        alpha = None
        if gradient is None:
            pass
        elif kind == "pool":
            alpha = gradient.sum((2, 3)) / (h * w)
        elif kind == "linear" and gradient.ndim == 2:
            alpha = gradient @ sum_over_positions(module, k) / (h * w)
        elif kind == "conv":
            (each,) = torch.autograd.grad(record.logits.sum(), output, retain_graph=True)
            share = each.sum((2, 3))[torch.arange(n), classes]  # (N,)
            alpha = share[:, None] * sum_over_positions(module, k)[classes] / (h * w)
        error = float("inf") if alpha is None else float((alpha - expected).abs().max() / largest)
        found[kind, name] = error
    return found
