"""From a segmentation network to its ONNX graph, with or without maps. Nothing is checked here."""

from dataclasses import dataclass

import onnx
import torch

from training.gradcam.find_layout import expose_map
from training.gradcam.masks.compiler import MaskPlan, trace_masks
from training.gradcam.masks.reference import MaskMethod, check_spread, run_with_leaf
from training.gradcam.reference import find_layer, prepare_network
from training.graph.compilation import (
    EXAMPLE_SIZES,
    explain_export_errors,
    make_example,
    round_weights,
)
from training.graph.fuse_batchnorm import fuse_batchnorms
from training.graph.onnx_export import (
    MASK_OUTPUTS,
    export_dynamic_graph,
    export_prediction_graph,
)
from training.graph.stored_weights import store_half_weights
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier


@dataclass(frozen=True)
class MaskGraph:
    """A graph with masks and maps, its plan, and the same graph without maps."""

    proto: onnx.ModelProto
    plan: MaskPlan
    plain: onnx.ModelProto


@dataclass(frozen=True)
class MaskOptions:
    """How the maps of a graph are made, and in which precision it stores its weights."""

    layer: str
    method: MaskMethod = "seg-hirescam"
    background: int | None = None
    precision: str = "fp32"


def compile_mask_graph(model: Classifier, pictures: Pixels, options: MaskOptions) -> MaskGraph:
    """The ONNX graph of a segmentation network with maps at a layer.

    For w16 batch-norms are fused and weights rounded in `model` itself.

    Raises:
        UserError: the layer cannot be explained, or the network cannot be exported.
    """
    prepare_network(model)
    image = make_example(pictures)
    plan = make_mask_plan(model, options, image)
    layer = find_layer(model.network, plan.layer)
    if options.precision == "w16":
        fuse_batchnorms(model, image, layer)
        round_weights(model)
    n, t = EXAMPLE_SIZES
    inputs = torch.zeros(n, t, dtype=torch.int64), torch.zeros(n, t, 5, dtype=torch.int64)
    with explain_export_errors(options.layer):
        graph = trace_masks(model, layer, plan, image, inputs)
        named = {"image": image, "target": inputs[0], "region": inputs[1]}
        proto = export_dynamic_graph(graph, named, MASK_OUTPUTS)
    plain = export_plain_masks(model, image)
    if options.precision == "w16":
        store_half_weights(proto)
    return MaskGraph(proto, plan, plain)


def make_mask_plan(model: Classifier, options: MaskOptions, image: torch.Tensor) -> MaskPlan:
    """The plan of a layer, whose map must be one that says more than the logits.

    Raises:
        UserError: there is no such layer, or its output is not a usable map.
    """
    name = expose_map(model, model.network, options.layer, image)
    layer = find_layer(model.network, name)
    check_spread(model, layer, image)
    _, a = run_with_leaf(model, image[:1], layer)
    return MaskPlan(name, options.method, options.background, *a.shape[1:])


def export_plain_masks(model: Classifier, image: torch.Tensor) -> onnx.ModelProto:
    """The ONNX graph of mask and probabilities alone, as the baseline of the checks."""

    def predict(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(image)
        return logits.argmax(1).to(torch.uint8), logits.softmax(1)

    with explain_export_errors("the logits"):
        return export_prediction_graph(predict, image, MASK_OUTPUTS[:2])
