"""From a classifier to its ONNX graph, with or without Grad-CAM. Nothing is checked here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn
from torch._dynamo.exc import UserError as DynamoUserError
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from training.errors import UserError
from training.gradcam.compiler import make_explained_forward, trace_graph
from training.gradcam.find_layout import expose_map
from training.gradcam.plan import Plan, make_plan
from training.gradcam.reference import Method, find_layer, prepare_network
from training.graph.fuse_batchnorm import fuse_batchnorms
from training.graph.onnx_export import export_prediction_graph, export_traced_graph
from training.graph.stored_weights import MIN_HALF_WEIGHTS, store_half_weights
from training.imaging.preprocessing import Pixels
from training.networks.classifier import compute_probabilities

OPERATION = re.compile(r"target=torch\.ops\.\w+\.(\w+)")
MISSING = re.compile(r"No Op registered for (\w+)")
BRANCH_ERRORS = (
    GuardOnDataDependentSymNode,
    DataDependentOutputException,
    DynamicOutputShapeException,
)
EXAMPLE_SIZES = (5, 2)  # N and T of the traced example: equal to no other size


@dataclass(frozen=True)
class GraphOptions:
    """What a graph computes besides the map of its target layer."""

    multilabel: bool = False  # a sigmoid per label instead of a softmax over the classes
    temperature: float = 1.0
    precision: str = "fp32"
    method: Method = "gradcam"
    alpha: bool = False  # the map's weights as a fourth output, for tests


@dataclass(frozen=True)
class CompiledGraph:
    """A graph with its map, and the plan by which it computes the map's weights."""

    proto: onnx.ModelProto
    plan: Plan


def compile_graph(
    model: nn.Module,
    network: nn.Module,
    layer: str,
    pictures: Pixels,  # (N, H, W, C)
    options: GraphOptions = GraphOptions(),
) -> CompiledGraph:
    """The ONNX graph of a classifier with Grad-CAM at a layer, computing in 32 bits.

    For precisions below fp32 batch-norms are fused, and for w16 weights are rounded, in `model`
    itself.

    Raises:
        UserError: the layer cannot be explained, or the network cannot be exported.
    """
    prepare_network(model)
    image = make_example(pictures)
    module = expose_map(model, network, layer, image)
    if options.precision != "fp32":
        fuse_batchnorms(model, image, find_layer(network, module))
    if options.precision == "w16":
        round_weights(model)
    target = torch.arange(EXAMPLE_SIZES[0] * EXAMPLE_SIZES[1]).reshape(EXAMPLE_SIZES) % 2
    with explain_export_errors(layer):
        plan = make_plan(model, network, module, image[:3], options.method)
        run = make_explained_forward(model, network, plan, options.multilabel, options.temperature)
        graph = trace_graph(run, image, target)
        proto = export_traced_graph(graph, image, target, options.alpha)
    if options.precision == "w16":
        store_half_weights(proto)
    return CompiledGraph(proto, plan)


def compile_prediction_graph(
    model: nn.Module, pictures: Pixels, options: GraphOptions = GraphOptions()
) -> onnx.ModelProto:
    """The ONNX graph of the classifier without explanation, as the baseline of the checks."""

    def predict(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(image)
        return logits, compute_probabilities(logits, options.multilabel, options.temperature)

    with explain_export_errors("the logits"):
        return export_prediction_graph(predict, make_example(pictures))


def make_example(pictures: Pixels) -> torch.Tensor:
    """The batch of pictures (N, H, W, C) that is traced; few pictures are repeated."""
    return torch.from_numpy(np.resize(pictures, (EXAMPLE_SIZES[0], *pictures.shape[1:])))


def round_weights(model: nn.Module) -> None:
    """Round the weights to 16 bits in place. Small weights keep all their bits."""
    for weight in model.parameters():
        if weight.numel() >= MIN_HALF_WEIGHTS:
            weight.copy_(weight.half())


@contextmanager
def explain_export_errors(layer: str) -> Iterator[None]:
    """Translate torch's errors in this block to one sentence that names the target layer.

    Raises:
        UserError: an operation is missing in the exporter, the network branches on values, it
            fixes the number of pictures, or it does something else that a graph cannot do.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # torch's and the user's code raise many kinds
        raise UserError(f"{describe_export_error(error, layer)} No file was written.") from error


def describe_export_error(error: Exception, layer: str) -> str:
    """What torch's long error means for the network, and what to do."""
    text = str(error)
    if isinstance(error, torch.onnx.OnnxExporterError) or MISSING.search(text):
        match = OPERATION.search(text) or MISSING.search(text)
        return (
            f"The ONNX exporter does not support {match[1] if match else 'an operation'!r}, which "
            f"this network needs for an explanation at {layer!r}. Try a later layer."
        )
    if isinstance(error, BRANCH_ERRORS):
        return (
            "The network branches on the values of a picture, which a graph cannot do. "
            "Use torch.where instead of the branch."
        )
    if isinstance(error, DynamoUserError):
        return (
            f"Tracing the network, or its gradient at {layer!r}, fixes the number of pictures. "
            "If its forward uses that number as a constant, use x.shape[0] instead. "
            "Else choose a later layer."
        )
    if "autograd.Function" in text:
        return (
            f"After {layer!r} the network uses an operation with a gradient of its own, such as a "
            "torch.autograd.Function or DeformConv2d, which a graph cannot hold. "
            "Use plain torch operations instead, or choose a later layer."
        )
    first = (text.strip() or "no reason was given").splitlines()[0].rstrip(".")
    return (
        f"The network cannot be made a graph with an explanation at {layer!r}: "
        f"{type(error).__name__}: {first}. Change this in its forward, or choose a later layer."
    )
