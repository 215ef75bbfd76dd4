"""The checks find the errors that exporters have made."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from training.artifact.parity import check_parity, check_signature
from training.errors import CheckError
from training.graph.compilation import CompiledGraph, compile_graph, compile_prediction_graph
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier


def check(compiled: CompiledGraph, model: Classifier, pictures: Pixels) -> None:
    layer = model.network.get_submodule("features.act2")
    check_parity(compiled.proto, compile_prediction_graph(model, pictures), model, layer, pictures)


def node(proto: onnx.ModelProto, output: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in proto.graph.node if output in n.output)
    return found


def freeze(proto: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    """Replace a computed value of the graph by a constant."""
    for each in proto.graph.node:
        for i, source in enumerate(each.input):
            if source == name:
                each.input[i] = "frozen"
    proto.graph.initializer.append(numpy_helper.from_array(value, "frozen"))


def test_an_exact_graph_passes(compiled: CompiledGraph, lenet: Classifier, grays: Pixels) -> None:
    """No error is raised."""
    check(compiled, lenet, grays)


def test_a_frozen_gradient_is_found(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """Every target has the gradient of one class."""
    gather = next(n for n in compiled.proto.graph.node if n.op_type == "Gather")
    weights = next(i for i in compiled.proto.graph.initializer if i.name == gather.input[0])
    freeze(
        compiled.proto, gather.output[0], numpy_helper.to_array(weights)[3][np.newaxis, np.newaxis]
    )
    with pytest.raises(CheckError, match=r"cam deviates|cam has shape"):
        check(compiled, lenet, grays)


def test_a_frozen_batch_size_is_found(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """A dimension has a number where the contract has a name."""
    size = compiled.proto.graph.output[2].type.tensor_type.shape.dim[0]
    size.ClearField("dim_param")
    size.dim_value = 5
    with pytest.raises(CheckError, match=r"cam has shape .* is fixed"):
        check(compiled, lenet, grays)


def test_the_graph_of_another_network_is_found(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """The weights have changed since the export."""
    lenet.network.get_submodule("classifier.fc1").weight.data.mul_(1.01)  # type: ignore[operator]
    with pytest.raises(CheckError, match="No file was written"):
        check(compiled, lenet, grays)


def test_the_map_of_another_layer_is_found(lenet: Classifier, grays: Pixels) -> None:
    """The shape is right, but the layer is the one before the activation."""
    other = compile_graph(lenet, lenet.network, "features.conv2", grays)
    with pytest.raises(CheckError, match="cam deviates"):
        check(other, lenet, grays)


def test_another_operator_set_is_found(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """Only opset 18 of the standard domain is allowed."""
    node(compiled.proto, "probabilities").domain = "com.example"
    with pytest.raises(CheckError, match="Only opset 18"):
        check(compiled, lenet, grays)


def test_sums_at_scattered_places_are_refused(compiled: CompiledGraph) -> None:
    """The threads of onnxruntime lose some of them, so a small batch proves nothing."""
    inputs = ["cam", "places", "values"]
    check_signature(compiled.proto)
    compiled.proto.graph.node.append(onnx.helper.make_node("ScatterND", inputs, ["sums"]))
    check_signature(compiled.proto)
    compiled.proto.graph.node[-1].attribute.append(onnx.helper.make_attribute("reduction", "add"))
    with pytest.raises(CheckError, match="by ScatterND"):
        check_signature(compiled.proto)
