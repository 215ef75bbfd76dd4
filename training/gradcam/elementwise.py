"""Ways to compute G, HiResCAM's weights, inside a graph: one class per kind of plan.

G is the gradient at every position of the map. Each class takes the forward pass and the targets.
It returns the logits and G. `plan` decides which class is exact for a layer. Knows nothing of
tracing or ONNX.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vjp

from training.gradcam.alpha import (
    ForwardPass,
    Head,
    WeightMethod,
    differentiate_once,
    repeat_rows,
)
from training.gradcam.plan import Plan
from training.gradcam.reference import attach_hook, copy_differentiably, resolve_targets
from training.gradcam.shortcuts import sum_over_positions

Tensor = torch.Tensor


@dataclass(frozen=True)
class PositionScaledMatrix:
    """G is a row of a constant matrix times a map: a 1x1 convolution makes a map of the logits."""

    head: Head
    rows: Tensor  # (C, K)

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        start, backward, logits = self.head.differentiate(forward.pivot, forward.image)
        # The derivative of each logit by its own map.
        (each,) = backward(torch.ones_like(start))  # (N, C, h, w)
        rows = resolve_targets(target, logits)  # (N, T)
        places = rows[..., None, None].expand(*rows.shape, *each.shape[2:])
        share = each.gather(1, places)  # (N, T, h, w)
        return logits, share[:, :, None] * F.embedding(rows, self.rows)[..., None, None]


@dataclass(frozen=True)
class MapGradient:
    """G is the gradient at the map. The head runs once per target."""

    head: Head

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        (n, *sizes), t = forward.map.shape, target.shape[1]
        rows = resolve_targets(target, forward.logits)
        cotangent = self.head.make_cotangent(rows.flatten(), forward.logits)
        many = repeat_rows(forward.image, t)
        _, backward, _ = self.head.differentiate(repeat_rows(forward.map, t), many)
        (gradient,) = backward(cotangent)  # (N T, K, h, w)
        return forward.logits, gradient.reshape(n, t, *sizes)


@dataclass(frozen=True)
class LinearGradient:
    """G is the gradient at a linear layer, taken back to the map; what follows it runs once."""

    head: Head  # from the linear layer's output on
    layer: nn.Module

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        (n, *sizes), t = forward.map.shape, target.shape[1]
        logits, start = differentiate_once(self.head, forward, target)  # (T, N, outputs)
        many = repeat_rows(forward.image, t)

        def run(at: Tensor) -> Tensor:
            outputs: list[Tensor] = []
            with (
                attach_hook(self.layer, lambda *_: copy_differentiably(at)),
                attach_hook(self.head.pivot, lambda *args: outputs.append(args[-1])),
            ):
                self.head.model(many)
            return outputs[-1]

        _, backward = vjp(run, repeat_rows(forward.map, t))  # type: ignore[misc]
        (gradient,) = backward(start.transpose(0, 1).flatten(0, 1))  # (N T, K, h, w)
        return logits, gradient.reshape(n, t, *sizes)


def make_gradient_method(model: nn.Module, network: nn.Module, plan: Plan) -> WeightMethod:
    """The way to compute G that the plan names."""
    layer, pivot = network.get_submodule(plan.layer), network.get_submodule(plan.pivot)
    seed = network.get_submodule(plan.seed) if plan.seed else None
    if plan.kind == "conv":
        return PositionScaledMatrix(
            Head(model, pivot, seed), sum_over_positions(pivot, plan.channels)
        )
    if plan.kind == "linear" and pivot is not seed:
        return LinearGradient(Head(model, pivot, seed), layer)
    return MapGradient(Head(model, layer, seed))
