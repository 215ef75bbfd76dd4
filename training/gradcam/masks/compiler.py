"""A segmentation network and its map as one traced graph of plain tensor operations.

The picture and the gradient are traced once. Then the gradient is run for each target (`wide`), so
that the network runs once per picture, however many targets it has. Knows nothing of ONNX.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from training.gradcam.compiler import trace_plain_operations, weigh_map
from training.gradcam.decompositions import DECOMPOSITIONS
from training.gradcam.masks.pixels import choose_pixels, make_cotangent, split_classes
from training.gradcam.masks.reference import MaskMethod, run_with_leaf
from training.gradcam.masks.wide import Wide
from training.gradcam.simplify import simplify_graph

aten = torch.ops.aten
Tensor = torch.Tensor
MaskForward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
BATCH_AXIS, FIXED_AXES = DimDynamic.DYNAMIC, DimDynamic.STATIC


@dataclass(frozen=True)
class MaskPlan:
    """The layer and the method of a segmentation network's maps, and the size of its map."""

    layer: str
    method: MaskMethod
    background: int | None
    channels: int
    height: int
    width: int
    compiler: str = "backward"
    reason: str = ""  # why the method is not the one that was asked for

    @property
    def pivot(self) -> str:
        """The module at whose output the gradient is taken."""
        return self.layer


def trace_masks(
    model: nn.Module, layer: nn.Module, plan: MaskPlan, image: Tensor, inputs: tuple[Tensor, ...]
) -> GraphModule:
    """Trace pictures, targets and regions to mask, probabilities and cam; N and T are dynamic."""
    gradient = trace_gradient(model, layer, image)
    run = make_mask_forward(gradient, plan)
    axes = ((1, 3), (2, 0), (2, 1))  # of image, target and region: dynamic and fixed
    with trace_plain_operations():
        return simplify_graph(trace(run, (image, *inputs), axes))


def make_mask_forward(gradient: GraphModule, plan: MaskPlan) -> MaskForward:
    """A function of pictures, targets and regions to mask, probabilities and cam."""

    def run(image: Tensor, target: Tensor, region: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wide = Wide(gradient, image)
        logits, a = wide.run_forward()  # (N, K, H, W), (N, C, h, w)
        mask = logits.argmax(1)  # (N, H, W)
        each = split_classes(mask, logits)
        classes, pixels = choose_pixels(mask, each, target, region, plan.background)
        (n, t), (c, h, w) = target.shape, a.shape[1:]
        cotangent = make_cotangent(classes, pixels, logits).flatten(0, 1)  # (N T, K, H, W)
        g = wide.run_backward(cotangent, t).reshape(n, t, c, h, w)
        weights = g.mean((3, 4)) if plan.method == "seg-gradcam" else g
        return mask.to(torch.uint8), logits.softmax(1), weigh_map(a, weights)

    return run


def trace_gradient(model: nn.Module, layer: nn.Module, image: Tensor) -> GraphModule:
    """Trace pictures and a cotangent to the logits, the layer's map, and the gradient there."""
    with torch.no_grad():
        logits = model(image)

    def run(image: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, a = run_with_leaf(model, image, layer)
        (gradient,) = torch.autograd.grad(logits, a, cotangent)
        return logits.detach(), a.detach(), gradient

    with trace_plain_operations():
        graph = trace(run, (image, torch.zeros_like(logits)), ((1, 3), (1, 3)))
    return slice_weights(simplify_graph(graph))


def trace(
    run: Callable[..., tuple[Tensor, ...]],
    inputs: tuple[Tensor, ...],
    axes: tuple[tuple[int, int], ...],
) -> GraphModule:
    """Trace a function. Of each input's axes so many are dynamic, and so many after them fixed."""
    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [
        fake.from_tensor(
            tensor,
            symbolic_context=StatelessSymbolicContext(
                dynamic_sizes=[BATCH_AXIS] * moving + [FIXED_AXES] * fixed
            ),
        )
        for tensor, (moving, fixed) in zip(inputs, axes, strict=True)
    ]
    with fake, torch.no_grad():
        return make_fx(run, DECOMPOSITIONS, _allow_non_fake_inputs=True)(*fakes)


def slice_weights(graph: GraphModule) -> GraphModule:
    """Slice a convolution's weights where only a slice of its channels is used."""
    for node in [*graph.graph.nodes]:
        source = node.args[0] if node.target is aten.slice.Tensor else None
        if not isinstance(source, Node) or source.target is not aten.convolution.default:
            continue
        if len(source.users) > 1 or node.args[1] != 1 or source.args[2] is not None:
            continue
        weight, transposed, groups = source.args[1], source.args[6], source.args[8]
        if groups != 1 or not isinstance(weight, Node):
            continue
        with graph.graph.inserting_before(source):
            part = graph.graph.call_function(
                aten.slice.Tensor, (weight, int(bool(transposed)), *node.args[2:])
            )
            part.meta["val"] = aten.slice.Tensor(weight.meta["val"], *part.args[1:])
        source.replace_input_with(weight, part)
        source.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(source)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
