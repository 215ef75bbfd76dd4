"""A classifier and its map as one traced graph of plain tensor operations.

Knows nothing of ONNX. `plan` decides which way to the map's weights is exact. `alpha` computes
Grad-CAM's weights, and `elementwise` those of HiResCAM.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from training.gradcam.alpha import ForwardPass, make_alpha_method
from training.gradcam.decompositions import DECOMPOSITIONS
from training.gradcam.elementwise import make_gradient_method
from training.gradcam.plan import Plan
from training.gradcam.reference import attach_hook
from training.gradcam.simplify import simplify_graph
from training.networks.classifier import compute_probabilities

LINEAR = F.linear
AVERAGE_POOL = F.adaptive_avg_pool2d
ExplainedForward = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]


def make_explained_forward(
    model: nn.Module, network: nn.Module, plan: Plan, multilabel: bool, temperature: float = 1.0
) -> ExplainedForward:
    """A function of pictures (N, H, W, C), targets (N, T) to logits, probabilities, cam, weights.

    The plan selects the method and how its weights are computed. The temperature changes the
    probabilities only.
    """
    layer, pivot = network.get_submodule(plan.layer), network.get_submodule(plan.pivot)
    make_method = make_alpha_method if plan.method == "gradcam" else make_gradient_method
    compute_weights = make_method(model, network, plan)

    def run(image: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with record_output(layer) as maps, record_output(pivot) as pivots:
            logits = model(image)  # (N, C)
        a = maps[-1]  # (N, K, h, w)
        logits, weights = compute_weights(ForwardPass(image, logits, a, pivots[-1]), target)
        cam = weigh_map(a, weights)  # (N, T, h, w)
        return logits, compute_probabilities(logits, multilabel, temperature), cam, weights

    return run


def weigh_map(a: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over the channels of a map (N, K, h, w): one weight each, or one per position."""
    (n, _, h, w), t = a.shape, weights.shape[1]
    if weights.ndim == 5:  # (N, T, K, h, w)
        return (weights * a[:, None]).sum(2)
    return (weights @ a.flatten(2)).reshape(n, t, h, w)


@contextmanager
def record_output(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Record the module's outputs; what comes after it gets copies."""
    outputs: list[torch.Tensor] = []

    def record(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output)
        return output.clone()

    with attach_hook(module, record):
        yield outputs


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
    with fake, torch.no_grad(), trace_plain_operations():
        graph = make_fx(run, DECOMPOSITIONS, _allow_non_fake_inputs=True)(*inputs)
    return simplify_graph(graph)


def apply_linear(
    input: torch.Tensor,  # noqa: A002 (called like torch's own)
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """A linear layer on the last axis of the input (…, in): (…, out).

    Torch's own adds the bias in place where there are more than two axes. The gradient of that has
    no translation.
    """
    if input.ndim <= 2 or bias is None:
        return LINEAR(input, weight, bias)
    return input @ weight.t() + bias


def apply_average_pool(
    input: torch.Tensor,  # noqa: A002 (called like torch's own)
    output_size: Any,
) -> torch.Tensor:
    """An average pool of (…, H, W) to an output size.

    Where channels are last in memory, torch's own changes the strides of a 1x1 output in place. The
    gradient of that has no translation.
    """
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    return AVERAGE_POOL(input, output_size)


class PlainAssignments(TorchFunctionMode):
    """`x += y` and the like give a new tensor where x is a part of another one.

    The gradient of changing a part in place has no translation. A network that reads the whole
    afterwards is traced wrongly, which the checks of the graph find.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in PLAIN_ASSIGNMENTS and args[0]._is_view() and args[0].requires_grad:
            func = PLAIN_ASSIGNMENTS[func]
        return func(*args, **(kwargs or {}))


PLAIN_ASSIGNMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.add_: torch.Tensor.add,
    torch.Tensor.sub_: torch.Tensor.sub,
    torch.Tensor.mul_: torch.Tensor.mul,
    torch.Tensor.div_: torch.Tensor.div,
}


@contextmanager
def trace_plain_operations() -> Iterator[None]:
    """Let traced networks use plain operations, which have gradients and any batch size."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    F.linear, F.adaptive_avg_pool2d = apply_linear, apply_average_pool
    try:
        with (
            PlainAssignments(),
            # Functions that the network compiles are traced like all others.
            torch._dynamo.config.patch(error_on_nested_fx_trace=False),
            # Torch's kernels in C++ would fix sizes that vary.
            enable_python_dispatcher(),
            # The gradient of fused attention has no translation.
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        F.linear, F.adaptive_avg_pool2d = LINEAR, AVERAGE_POOL
