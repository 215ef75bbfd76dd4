"""Model files that break one rule each, and what the error message must say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.service.quadrants_model import make_card, make_golden, make_graph, save

Card = dict[str, Any]
Spoil = Callable[[onnx.ModelProto, Card], None]


def write_spoiled(path: Path, spoil: Spoil) -> None:
    """Write an artifact whose graph or card `spoil` has changed."""
    card = make_card()
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    spoil(model, card)
    save(model, card, path)


def store_outside(model: onnx.ModelProto, _: Card) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    tensor.ClearField("raw_data")


def use_own_operator(model: onnx.ModelProto, _: Card) -> None:
    model.graph.node[0].domain = "com.example"


def import_own_operators(model: onnx.ModelProto, _: Card) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def define_function(model: onnx.ModelProto, _: Card) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("", "Mine", ["x"], ["y"], [node], opsets))


def make_body(operator: str) -> onnx.NodeProto:
    """A node whose body is a graph."""
    tensor = helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, [])
    graph = helper.make_graph([helper.make_node("Abs", ["zero"], ["inner"])], "g", [], [tensor])
    return helper.make_node(operator, ["own"], ["unused"], then_branch=graph, else_branch=graph)


def run_without_end(model: onnx.ModelProto, _: Card) -> None:
    model.graph.node.append(make_body("Loop"))


def hide_operator(model: onnx.ModelProto, _: Card) -> None:
    node = make_body("If")
    node.attribute[0].g.node[0].domain = "com.example"
    model.graph.node.append(node)


def nest(model: onnx.ModelProto, _: Card) -> None:
    node = make_body("If")
    for _level in range(10):
        outer = make_body("If")
        outer.attribute[0].g.node[0].CopyFrom(node)
        node = outer
    model.graph.node.append(node)


def multiply_nodes(model: onnx.ModelProto, _: Card) -> None:
    model.graph.node.extend([helper.make_node("Abs", ["zero"], ["unused"])] * 100_001)


def declare_more_values(model: onnx.ModelProto, _: Card) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def store_strings(model: onnx.ModelProto, _: Card) -> None:
    tensor = onnx.TensorProto(name="t", data_type=onnx.TensorProto.STRING, string_data=[b"x"])
    model.graph.initializer.append(tensor)


def make_sparse(model: onnx.ModelProto, _: Card) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def fix_rows(model: onnx.ModelProto, _: Card) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def allocate_petabyte(model: onnx.ModelProto, _: Card) -> None:
    """Make a constant of a petabyte, which onnxruntime allocates when it folds constants."""
    size = numpy_helper.from_array(np.array([1 << 48]), "petabyte")
    model.graph.initializer.append(size)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["petabyte"], ["vast"]))
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["vast"], ["nought"], keepdims=0))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.input[0] = "raised"
    at = list(model.graph.node).index(softmax)
    model.graph.node.insert(at, helper.make_node("Add", ["logits", "nought"], ["raised"]))


def declare_wrong_shape(model: onnx.ModelProto, _: Card) -> None:
    """Make maps that are twice as high as declared."""
    einsum = model.graph.node[-1]
    einsum.output[0] = "small"
    model.graph.node.append(helper.make_node("Concat", ["small", "small"], ["cam"], axis=2))


def describe_huge_input(_: onnx.ModelProto, card: Card) -> None:
    card["input"] |= {"height": 1 << 20, "width": 1 << 20, "resize": 1 << 20}


def describe_many_labels(_: onnx.ModelProto, card: Card) -> None:
    card["labels"] = [str(number) for number in range(100_001)]


def describe_long_label(_: onnx.ModelProto, card: Card) -> None:
    card["labels"][0] = "x" * 1001


def describe_fewer_labels(_: onnx.ModelProto, card: Card) -> None:
    card["labels"] = card["labels"][:3]


def describe_half_a_surrogate_pair(_: onnx.ModelProto, card: Card) -> None:
    card["architecture"] = "\ud800"


def describe_too_deep(_: onnx.ModelProto, card: Card) -> None:
    for _level in range(400):
        card["training"] = {"in": card["training"]}


def describe_too_much(_: onnx.ModelProto, card: Card) -> None:
    card["training"]["notes"] = "x" * (8 << 20)


INVALID: dict[Spoil, str] = {  # found by validation
    store_outside: "outside the file",
    use_own_operator: "outside the standard domain",
    import_own_operators: "outside the standard domain",
    define_function: "functions of its own",
    run_without_end: "run without end",
    hide_operator: "outside the standard domain",
    nest: "nested more than",
    multiply_nodes: "nodes",
    declare_more_values: "does not match the number of values",
    store_strings: "not a number type",
    make_sparse: "sparse",
    fix_rows: "'image' of shape",
    describe_huge_input: "input.height",
    describe_many_labels: "labels",
    describe_long_label: "labels.0",
    describe_fewer_labels: "the card implies",
    describe_half_a_surrogate_pair: "not valid JSON",
    describe_too_deep: "not valid JSON",
    describe_too_much: "card of more than",
}
UNRUNNABLE: dict[Spoil, str] = {  # found by running the file
    allocate_petabyte: "MB of memory that it may take",
    declare_wrong_shape: "cam",
}
