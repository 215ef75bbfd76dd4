"""Grad-CAM by its definition (Selvaraju et al. 2017, eq. 1-2), in eager torch.

This is what every exported graph is held against. Knows nothing of ONNX.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.errors import UserError


@dataclass(frozen=True)
class Explanation:
    """One pass: logits (N, C), alpha (N, T, K) and signed, unnormalised maps cam (N, T, h, w)."""

    logits: torch.Tensor
    alpha: torch.Tensor
    cam: torch.Tensor


def compute_gradcam(
    model: nn.Module, image: torch.Tensor, target: torch.Tensor, layer: nn.Module
) -> Explanation:
    """Why each target of each row: A at the layer, alpha = mean of dy/dA, cam = sum of alpha A.

    Takes pictures (N, H, W, C) and class indices (N, T), -1 for the row's own top-1.
    """
    held: list[torch.Tensor] = []

    def leaf(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1].clone()  # whoever works in place works on the copy

    with attach_hook(layer, leaf), torch.enable_grad():
        logits = model(image)  # (N, C)
    a = get_single_map(held)  # (N, K, h, w)
    target = resolve_targets(target, logits)
    alphas = []
    for column in target.unbind(1):
        y = logits.gather(1, column[:, None]).sum()
        (gradient,) = torch.autograd.grad(y, a, retain_graph=True)  # (N, K, h, w)
        alphas.append(gradient.mean((2, 3)))
    n, k, h, w = a.shape
    alpha = torch.stack(alphas, 1) if alphas else a.new_zeros(n, 0, k)  # (N, T, K)
    cam = (alpha @ a.detach().flatten(2)).reshape(n, target.shape[1], h, w)
    return Explanation(logits.detach(), alpha, cam)


def prepare_network(model: nn.Module) -> None:
    """In evaluation, its weights without gradients, and no layer writing over another's map."""
    model.eval().requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010


def resolve_targets(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The targets (N, T) with each -1 replaced by the row's top-1."""
    return torch.where(target < 0, logits.detach().argmax(1, keepdim=True), target)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The network's layer of this name."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        names = [n for n, m in network.named_modules() if n and not list(m.children())]
        raise UserError(f"There is no layer {name!r}; some there are: {', '.join(names[-8:])}.")  # noqa: B904


def get_single_map(held: list[torch.Tensor]) -> torch.Tensor:
    """The one map that the layer put out."""
    if len(held) != 1:
        raise UserError(
            f"The target layer runs {len(held)} times in a pass; choose one that runs once."
        )
    if held[0].ndim != 4:
        raise UserError(
            f"The target layer's output has shape {tuple(held[0].shape)}; a map has four."
        )
    if held[0].shape[2:] == (1, 1):
        raise UserError(
            "The target layer's map is 1x1: it can't show where; choose an earlier one."
        )
    return held[0]


@contextmanager
def attach_hook(module: nn.Module, hook: Any, before: bool = False) -> Iterator[None]:
    """The hook on the module, for as long as the block runs."""
    put = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = put(hook)
    try:
        yield
    finally:
        handle.remove()
