"""From a request to the graph that is served: compiled, checked against torch, lowered if asked.

The checks against torch come before the precision is lowered: fp32 and w16 must agree with torch,
the other precisions are compared with fp32.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from training.artifact.parity import check_parity
from training.artifact.precision_loss import (
    EXACT_PRECISIONS,
    compare_precisions,
    describe_loss,
    extract_prediction_graph,
)
from training.evaluate.metrics import predict_split
from training.evaluate.temperature import UNFITTED, find_temperature
from training.export.choose_layer import choose_layer_and_method
from training.export.request import ExportRequest
from training.gradcam.plan import Plan
from training.gradcam.reference import find_layer
from training.graph.compilation import (
    CompiledGraph,
    GraphOptions,
    compile_graph,
    compile_prediction_graph,
)
from training.graph.quantize import reduce_precision
from training.graph.session import measure_cost
from training.networks.classifier import Classifier


@dataclass(frozen=True)
class TargetNetwork:
    """A network with the layer to explain and the options of its graph, the method among them."""

    model: Classifier
    layer: str
    options: GraphOptions
    unfitted: str = ""  # why no temperature was fitted, if it should have been


@dataclass(frozen=True)
class CompiledNetwork:
    """A network and its graphs, all of which compute in 32 bits."""

    network: TargetNetwork
    graph: CompiledGraph
    plain: onnx.ModelProto  # without the explanation
    fp32: onnx.ModelProto | None  # with the weights before they were rounded, for w16


@dataclass(frozen=True)
class CheckedNetwork:
    """A network whose graph agrees with torch, and the worst deviations."""

    compiled: CompiledNetwork
    checks: dict[str, Any]


@dataclass(frozen=True)
class ServedGraph:
    """The graph to serve, the figures of its checks, and the cost of an explanation."""

    network: TargetNetwork
    proto: onnx.ModelProto
    plan: Plan
    checks: dict[str, Any]
    cost: dict[str, float]
    precision: str
    demands: dict[str, list[str]] = field(default_factory=dict)  # for the card


def choose_target(request: ExportRequest) -> TargetNetwork:
    """Choose layer and method by measurement if "auto". Fit a temperature if there is a split."""
    model = request.model
    layer, method = choose_layer_and_method(request)
    temperature: float | None = None
    if request.validation is not None:
        logits = predict_split(model.predict, request.validation)
        temperature = find_temperature(logits, request.validation.labels)
    unfitted = UNFITTED if request.validation is not None and temperature is None else ""
    options = GraphOptions(request.multilabel, temperature or 1.0, request.precision, method)
    return TargetNetwork(model, layer, options, unfitted)


def compile_network(request: ExportRequest, network: TargetNetwork) -> CompiledNetwork:
    """Compile the graph with the explanation, and the graph without it."""
    model, options = network.model, network.options

    def compile_with(options: GraphOptions) -> CompiledGraph:
        return compile_graph(model, model.network, network.layer, request.samples, options)

    fp32 = None
    if options.precision == "w16":  # compiled before the weights are rounded
        fp32 = compile_with(replace(options, precision="fp32")).proto
    graph = compile_with(options)
    plain = compile_prediction_graph(model, request.samples, options)
    if graph.plan.reason:
        request.say(graph.plan.reason)
    nodes = len(graph.proto.graph.node)
    request.say(f"compiled: {graph.plan.compiler}, {nodes} nodes; checking")
    return CompiledNetwork(network, graph, plain, fp32)


def check_network(request: ExportRequest, compiled: CompiledNetwork) -> CheckedNetwork:
    """Compare the graph with torch.

    Raises:
        CheckError: they disagree.
    """
    model, graph = compiled.network.model, compiled.graph
    layer = find_layer(model.network, graph.plan.layer)
    checks = check_parity(
        graph.proto, compiled.plain, model, layer, request.samples, graph.plan.method
    )
    checks["alpha"] = float(f"{graph.plan.error:.2g}")
    return CheckedNetwork(compiled, checks)


def lower_precision(request: ExportRequest, checked: CheckedNetwork) -> ServedGraph:
    """Lower the precision if asked, measure what it loses, and measure the cost.

    Raises:
        CheckError: the lower precision loses too much.
    """
    compiled, checks = checked.compiled, dict(checked.checks)
    precision = compiled.network.options.precision
    proto, plain, fp32 = compiled.graph.proto, compiled.plain, compiled.fp32
    if precision not in EXACT_PRECISIONS:
        fp32 = proto
        pictures = request.samples if request.calibration is None else request.calibration
        proto = reduce_precision(fp32, precision, pictures)
        plain = extract_prediction_graph(proto)
    if fp32 is not None:
        compared = request.test or request.samples
        checks["precision"] = compare_precisions(fp32, proto, precision, compared)
        request.say(describe_loss(checks["precision"]))
    return finish_graph(request, compiled, proto, plain, checks, precision)


def finish_graph(
    request: ExportRequest,
    compiled: CompiledNetwork,
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,  # without the explanation
    checks: dict[str, Any],
    precision: str,
) -> ServedGraph:
    """The graph to serve, with the cost of its explanation."""
    cost = measure_cost(proto, plain, request.samples)
    lowered = "" if precision in EXACT_PRECISIONS else f" in 32 bits, before {precision}"
    request.say(
        f"exact{lowered}: cam within {checks['cam']:.1e}; "
        f"explained costs {cost['ratio']:.2f} of plain"
    )
    return ServedGraph(compiled.network, proto, compiled.graph.plan, checks, cost, precision)
