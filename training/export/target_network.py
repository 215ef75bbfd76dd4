"""The first step of an export: which layer is explained, and what the graph shall compute."""

from dataclasses import dataclass

from training.evaluate.metrics import predict_split
from training.evaluate.temperature import find_temperature
from training.export.choose_layer import choose_layer
from training.export.request import ExportRequest
from training.graph.compilation import GraphOptions
from training.networks.classifier import Classifier, find_known_layer


@dataclass(frozen=True)
class TargetNetwork:
    """A network with the layer to explain and the options of its graph."""

    model: Classifier
    layer: str
    options: GraphOptions


def choose_target(request: ExportRequest) -> TargetNetwork:
    """Choose the layer by measurement if it is "auto". Fit a temperature if there is a split."""
    model, layer = request.model, request.layer
    if layer == "auto":
        own = find_known_layer(model.network)
        layer = choose_layer(model, own, request.test, request.multilabel, request.say)
    temperature = 1.0
    if request.validation is not None:
        logits = predict_split(model.predict, request.validation)
        temperature = find_temperature(logits, request.validation.labels)
    options = GraphOptions(request.multilabel, temperature, request.precision)
    return TargetNetwork(model, layer, options)
