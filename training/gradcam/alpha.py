"""Ways to compute alpha, Grad-CAM's channel weights, inside a graph: one class per kind of plan.

Each class takes the forward pass and the targets. It returns the logits and alpha. `plan` decides
which class is exact for a layer. Knows nothing of tracing or ONNX.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vjp, vmap

from training.gradcam.plan import Plan
from training.gradcam.reference import attach_hook, copy_differentiably, resolve_targets
from training.gradcam.shortcuts import sum_over_positions

Tensor = torch.Tensor
Backward = Callable[[Tensor], tuple[Tensor]]  # from the gradient of an output to that of its input


@dataclass(frozen=True)
class ForwardPass:
    """The pictures, and what the network made of them."""

    image: Tensor  # (N, H, W, C)
    logits: Tensor  # (N, C)
    map: Tensor  # A, (N, K, h, w)
    pivot: Tensor  # the output of the plan's pivot


class WeightMethod(Protocol):
    """One way to compute the weights of a map."""

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (N, C), and the weights of targets (N, T).

        Grad-CAM's weights are alpha (N, T, K), HiResCAM's are G (N, T, K, h, w).
        """


@dataclass(frozen=True)
class Head:
    """The part of a network after the pivot. It runs again when the pivot's output is replaced."""

    model: nn.Module
    pivot: nn.Module
    seed: nn.Module | None  # the linear layer whose output is the logits, if there is one

    def differentiate(self, at: Tensor, image: Tensor) -> tuple[Tensor, Backward, Tensor]:
        """The start of the gradient, the backward pass from there to the pivot, and the logits.

        The gradient starts at the seed's input if there is a seed, else at the logits.
        """

        def run(at: Tensor) -> tuple[Tensor, Tensor]:
            inputs: list[Tensor] = []
            with ExitStack() as stack:
                stack.enter_context(attach_hook(self.pivot, lambda *_: copy_differentiably(at)))
                if self.seed is not None:
                    hook = attach_hook(self.seed, lambda _, args: inputs.append(args[0]), True)
                    stack.enter_context(hook)
                logits = self.model(image)
            return (logits if self.seed is None else inputs[-1]), logits

        start, backward, logits = vjp(run, at, has_aux=True)  # type: ignore[misc]
        return start, backward, logits

    def make_cotangent(self, rows: Tensor, logits: Tensor) -> Tensor:
        """The gradient of the classes `rows` (…) at the start of the backward pass."""
        if self.seed is not None:
            assert isinstance(self.seed.weight, Tensor)
            return F.embedding(rows, self.seed.weight.detach())
        classes = torch.arange(logits.shape[1], device=logits.device)
        return (rows[..., None] == classes).to(logits.dtype)


@dataclass(frozen=True)
class ConstantMatrix:
    """alpha is a row of a constant matrix: a linear layer makes the logits from the pooled map."""

    weights: Tensor  # (C, K)
    scale: Tensor  # (K,)

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        rows = resolve_targets(target, forward.logits)  # (N, T)
        # Scaled here, so that the matrix is the layer's own and the file holds it once.
        return forward.logits, F.embedding(rows, self.weights) * self.scale


@dataclass(frozen=True)
class ScaledMatrix:
    """alpha is a row of a constant matrix, scaled: a 1x1 convolution makes a map of the logits."""

    head: Head
    means: Tensor  # (C, K)

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        start, backward, logits = self.head.differentiate(forward.pivot, forward.image)
        # The derivative of each logit by its bias.
        each = backward(torch.ones_like(start))[0].sum((2, 3))  # (N, C)
        rows = resolve_targets(target, logits)
        return logits, each.gather(1, rows)[..., None] * F.embedding(rows, self.means)


@dataclass(frozen=True)
class LinearBackward:
    """alpha is the gradient at a linear layer times its weights; the head runs forward once."""

    head: Head
    weights: Tensor  # (outputs of the pivot, K)
    scale: Tensor  # (K,)

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        logits, gradient = differentiate_once(self.head, forward, target)
        # Scaled last and by a vector: onnxruntime 1.31 fuses a transpose, a factor and a
        # product into one kernel, which divides by zero for T = 0.
        return logits, (gradient @ self.weights).transpose(0, 1) * self.scale


def differentiate_once(head: Head, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
    """The logits, and the gradients (T, N, …) at the pivot of a head that runs forward once."""
    _, backward, logits = head.differentiate(forward.pivot, forward.image)
    first = target.transpose(0, 1)  # (T, N)
    rows = torch.where(first < 0, logits.argmax(1), first)
    (gradient,) = vmap(backward)(head.make_cotangent(rows, logits))
    return logits, gradient


@dataclass(frozen=True)
class MapBackward:
    """alpha is the mean gradient at the map or a pool after it. The head runs once per target."""

    head: Head
    area: int

    def __call__(self, forward: ForwardPass, target: Tensor) -> tuple[Tensor, Tensor]:
        (n, k), t = forward.map.shape[:2], target.shape[1]
        rows = resolve_targets(target, forward.logits)
        many = repeat_rows(forward.image, t)
        _, backward, _ = self.head.differentiate(repeat_rows(forward.pivot, t), many)
        cotangent = self.head.make_cotangent(rows.flatten(), forward.logits)
        (gradient,) = backward(cotangent)  # (N T, K, …)
        alpha = gradient.sum((2, 3)) / self.area
        return forward.logits, alpha.reshape(n, t, k)


def make_alpha_method(model: nn.Module, network: nn.Module, plan: Plan) -> WeightMethod:
    """The way to compute alpha that the plan names."""
    pivot = network.get_submodule(plan.pivot)
    head = Head(model, pivot, network.get_submodule(plan.seed) if plan.seed else None)
    if plan.kind in ("map", "pool"):
        return MapBackward(head, plan.area)
    weights = sum_over_positions(pivot, plan.channels)
    scale = torch.full((plan.channels,), 1 / plan.area)
    if not plan.is_closed_form:
        return LinearBackward(head, weights, scale)
    if plan.kind == "linear":
        return ConstantMatrix(weights, scale)
    return ScaledMatrix(head, weights / plan.area)


def repeat_rows(rows: Tensor, times: int) -> Tensor:
    """Repeat each row `times` times: (N, …) to (N T, …)."""
    n, *rest = rows.shape
    return rows[:, None].expand(n, times, *rest).reshape(n * times, *rest)
