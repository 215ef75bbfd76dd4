"""Model files are not trusted: what is odd is refused in a sentence, and the old one serves."""

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.contract.tree import Tree
from tests.server import ROOT
from tests.service.quadrants import make_card, make_golden, make_graph, save, write_model

Card = dict[str, Any]
EXECUTING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}


def keep_outside(model: onnx.ModelProto, _: Card) -> None:
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


def claim_more_values(model: onnx.ModelProto, _: Card) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def store_texts(model: onnx.ModelProto, _: Card) -> None:
    tensor = onnx.TensorProto(name="t", data_type=onnx.TensorProto.STRING, string_data=[b"x"])
    model.graph.initializer.append(tensor)


def make_sparse(model: onnx.ModelProto, _: Card) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def fix_rows(model: onnx.ModelProto, _: Card) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def burst(model: onnx.ModelProto, _: Card) -> None:
    """A constant of a petabyte, made while onnxruntime folds constants."""
    size = numpy_helper.from_array(np.array([1 << 48]), "petabyte")
    model.graph.initializer.append(size)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["petabyte"], ["vast"]))
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["vast"], ["nought"], keepdims=0))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.input[0] = "raised"
    at = list(model.graph.node).index(softmax)
    model.graph.node.insert(at, helper.make_node("Add", ["logits", "nought"], ["raised"]))


def lie_of_shapes(model: onnx.ModelProto, _: Card) -> None:
    """Maps that are twice as high as declared."""
    einsum = model.graph.node[-1]
    einsum.output[0] = "small"
    model.graph.node.append(helper.make_node("Concat", ["small", "small"], ["cam"], axis=2))


def tell_huge_input(_: onnx.ModelProto, card: Card) -> None:
    card["input"] |= {"height": 1 << 20, "width": 1 << 20, "resize": 1 << 20}


def tell_many_labels(_: onnx.ModelProto, card: Card) -> None:
    card["labels"] = [str(number) for number in range(100_001)]


def tell_long_label(_: onnx.ModelProto, card: Card) -> None:
    card["labels"][0] = "x" * 1001


def tell_fewer_labels(_: onnx.ModelProto, card: Card) -> None:
    card["labels"] = card["labels"][:3]


def tell_half_a_pair(_: onnx.ModelProto, card: Card) -> None:
    card["architecture"] = "\ud800"


def tell_too_deep(_: onnx.ModelProto, card: Card) -> None:
    for _level in range(400):
        card["training"] = {"in": card["training"]}


def tell_too_much(_: onnx.ModelProto, card: Card) -> None:
    card["training"]["notes"] = "x" * (8 << 20)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (keep_outside, "outside the file"),
        (use_own_operator, "outside the standard domain"),
        (import_own_operators, "outside the standard domain"),
        (define_function, "functions of its own"),
        (run_without_end, "run without end"),
        (hide_operator, "outside the standard domain"),
        (nest, "nested over"),
        (multiply_nodes, "nodes"),
        (claim_more_values, "not as many values as it holds"),
        (store_texts, "none of the plain numbers"),
        (make_sparse, "sparse"),
        (fix_rows, "'image' of shape"),
        (burst, "onnxruntime"),
        (lie_of_shapes, "cam"),
        (tell_huge_input, "input.height"),
        (tell_many_labels, "labels"),
        (tell_long_label, "labels.0"),
        (tell_fewer_labels, "the card implies"),
        (tell_half_a_pair, "no JSON"),
        (tell_too_deep, "no JSON"),
        (tell_too_much, "card of over"),
    ],
)
def test_an_odd_file_is_refused_with_a_sentence_and_the_old_one_serves(
    tree: Tree, spoil: Callable[[onnx.ModelProto, Card], None], told: str
) -> None:
    name = spoil.__name__.replace("_", "-")
    write_model(tree.path(name))
    tree.wait("ready", name)
    card = make_card()
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    spoil(model, card)
    save(model, card, tree.path(name))
    failed = tree.wait("failed", name)
    assert str(tree.path(name)) in failed["reason"]
    assert told in failed["reason"]
    assert len(failed["reason"]) <= 1000
    assert tree.predict(model=name).status_code == 200
    assert tree.server.client.get("/models").status_code == 200


def test_nothing_in_serving_can_run_code_out_of_a_file() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & EXECUTING, path
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle", path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "__import__"), path
                assert not called.endswith(("np.load", "yaml.load")), path
            if isinstance(node, ast.Attribute):  # of a pipe: these unpickle what comes
                assert node.attr != "recv", path
