"""A classifier and its Grad-CAM as one traced graph of plain tensor operations.

Knows nothing of ONNX. Which shortcut is exact is decided in `plan`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vjp, vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from training.gradcam.decompositions import DECOMPOSITIONS
from training.gradcam.plan import Plan, sum_over_positions
from training.gradcam.reference import attach_hook, resolve_targets
from training.gradcam.simplify import simplify_graph
from training.networks.classifier import compute_probabilities

ExplainedForward = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]


def make_explained_forward(
    model: nn.Module, network: nn.Module, plan: Plan, multilabel: bool, temperature: float = 1.0
) -> ExplainedForward:
    """A function of pictures (N, H, W, C) and targets (N, T) to logits, probabilities, cam, alpha.

    The plan selects how alpha is computed. The temperature changes the probabilities only.
    """
    layer, pivot = network.get_submodule(plan.layer), network.get_submodule(plan.pivot)
    seed = network.get_submodule(plan.seed) if plan.seed else None
    weights = None if plan.kind in ("map", "pool") else sum_over_positions(pivot, plan.channels)
    means = None if weights is None else weights / plan.area
    scale = torch.full((plan.channels,), 1 / plan.area)

    def run(image: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        held: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
                held[name] = output
                return output.clone()

            return hook

        def seen(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            held["seed"] = inputs[0]

        with attach_hook(layer, keep("a")), attach_hook(pivot, keep("pivot")):
            logits = model(image)  # (N, C)
        a = held["a"]  # (N, K, h, w)
        (n, k, h, w), t = a.shape, target.shape[1]

        def head(
            at: torch.Tensor, image: torch.Tensor = image
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Run the head on the pivot's output; returns the start of the gradient, and logits."""
            with ExitStack() as stack:
                stack.enter_context(attach_hook(pivot, lambda *_: at.clone()))
                if seed is not None:
                    stack.enter_context(attach_hook(seed, seen, before=True))
                y = model(image)
            return (y if seed is None else held["seed"]), y

        def cotangent(rows: torch.Tensor) -> torch.Tensor:
            """The start of the backward pass for class indices: (…, C or inputs of the seed)."""
            if seed is not None:
                assert isinstance(seed.weight, torch.Tensor)
                return F.embedding(rows, seed.weight.detach())
            classes = torch.arange(logits.shape[1], device=logits.device)
            return (rows[..., None] == classes).to(logits.dtype)

        if plan.is_closed_form and plan.kind == "linear":
            assert means is not None
            rows = resolve_targets(target, logits)  # (N, T)
            alpha = F.embedding(rows, means)  # (N, T, K)
        elif plan.is_closed_form:
            assert means is not None
            start, back, logits = differentiate_head(head, held["pivot"])
            each = back(torch.ones_like(start))[0].sum(
                (2, 3)
            )  # (N, C): derivative of each logit by its bias
            rows = resolve_targets(target, logits)
            alpha = each.gather(1, rows)[..., None] * F.embedding(rows, means)
        elif plan.kind == "linear":  # the head runs forward once; targets come first
            assert weights is not None
            start, back, logits = differentiate_head(head, held["pivot"])
            first = target.transpose(0, 1)  # (T, N)
            rows = torch.where(first < 0, logits.argmax(1), first)
            (gradient,) = vmap(back)(cotangent(rows))  # (T, N, outputs of the pivot)
            # Scaled last and by a vector: onnxruntime 1.31 fuses a transpose, a factor and a
            # product into one kernel, which divides by zero for T = 0.
            alpha = (gradient @ weights).transpose(0, 1) * scale  # (N, T, K)
        else:  # the head runs once more for each target
            rows = resolve_targets(target, logits)
            many = repeat_rows(image, t)
            _, back, _ = differentiate_head(
                lambda at: head(at, many), repeat_rows(held["pivot"], t)
            )
            (gradient,) = back(cotangent(rows.flatten()))  # (N T, K, …)
            alpha = (gradient.sum((2, 3)) / plan.area).reshape(n, t, k)
        cam = (alpha @ a.flatten(2)).reshape(n, t, h, w)
        return logits, compute_probabilities(logits, multilabel, temperature), cam, alpha

    return run


def differentiate_head(
    head: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], at: torch.Tensor
) -> tuple[torch.Tensor, Callable[[torch.Tensor], tuple[torch.Tensor]], torch.Tensor]:
    """The head's output, the function that maps a cotangent to its input, and the logits."""
    start, back, logits = vjp(head, at, has_aux=True)  # type: ignore[misc]
    return start, back, logits


def repeat_rows(rows: torch.Tensor, times: int) -> torch.Tensor:
    """Repeat each row `times` times: (N, …) to (N T, …)."""
    n, *rest = rows.shape
    return rows[:, None].expand(n, times, *rest).reshape(n * times, *rest)


def trace_graph(run: ExplainedForward, image: torch.Tensor, target: torch.Tensor) -> GraphModule:
    """Trace the function to a graph with dynamic N and T and fixed picture sizes."""
    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    dynamic, static = DimDynamic.DYNAMIC, DimDynamic.STATIC
    inputs = [
        fake.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))
        for tensor, sizes in (
            (image, [dynamic, static, static, static]),
            (target, [dynamic, dynamic]),
        )
    ]
    with fake, torch.no_grad():
        graph = make_fx(run, DECOMPOSITIONS, _allow_non_fake_inputs=True)(*inputs)
    return simplify_graph(graph)
