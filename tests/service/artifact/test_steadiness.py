"""Which graphs do the same work for every picture."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.artifact.steadiness import is_steady
from service.artifact.validation import read_artifact
from service.runtime import opening
from service.runtime.opening import open_session
from service.settings import read_settings
from tests.service.artifact.spoiled import write_spoiled
from tests.service.quadrants_model import make_card, make_graph

BUNDLED = sorted(Path("models").glob("*/*/model.onnx"))


def make_nodes(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    """A graph of an image `x` [N, C, H, W] and the constants `one` and `axis`."""
    constants = {"one": np.ones(4, np.int64), "axis": np.zeros(1, np.int64)}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializer = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_graph(list(nodes), "g", [x], [y], initializer)


@pytest.mark.parametrize("path", BUNDLED, ids=str)
def test_every_bundled_model_is_steady(path: Path) -> None:
    assert read_artifact(path)[0].is_steady


def test_a_size_that_is_computed_from_sizes_is_steady() -> None:
    shape = helper.make_node("Shape", ["x"], ["shape"])
    product = helper.make_node("Mul", ["shape", "one"], ["sizes"])
    assert is_steady(make_nodes(shape, product, helper.make_node("Expand", ["x", "sizes"], ["y"])))
    assert is_steady(make_graph(make_card()).graph)


@pytest.mark.parametrize("inputs", [["x"], ["x", "", ""]])
def test_an_input_that_is_left_out_decides_nothing(inputs: list[str]) -> None:
    assert is_steady(make_nodes(helper.make_node("ReduceSum", inputs, ["y"])))


@pytest.mark.parametrize(
    "nodes",
    [
        [("ConstantOfShape", ["sizes"])],
        [("Expand", ["x", "sizes"])],
        [("Tile", ["x", "sizes"])],
        [("Reshape", ["x", "sizes"])],
        [("Slice", ["x", "axis", "sizes", "axis"])],
        [("Resize", ["x", "", "", "sizes"])],
        [("NonZero", ["x"])],
        [("If", ["x"])],
    ],
    ids=lambda nodes: nodes[0][0],
)
def test_a_size_that_is_computed_from_pixels_is_not(nodes: list[tuple[str, list[str]]]) -> None:
    total = helper.make_node("ReduceMax", ["x"], ["max"], keepdims=0)
    cast = helper.make_node("Cast", ["max"], ["number"], to=TensorProto.INT64)
    sizes = helper.make_node("Mul", ["number", "one"], ["sizes"])
    made = [helper.make_node(name, inputs, ["y"]) for name, inputs in nodes]
    assert not is_steady(make_nodes(total, cast, sizes, *made))
    assert not is_steady(make_nodes(*made, sizes, cast, total))


def multiply_matrices_of_white_pictures(model: onnx.ModelProto, _card: object) -> None:
    """Let the brightness of the picture decide how large two factors of a product are."""
    graph = model.graph
    at = next(i for i, node in enumerate(graph.node) if node.op_type == "Softmax")
    graph.node[at].input[0] = "raised"
    constants = {"limit": np.float32(0.98), "nil": np.float32(0)}
    sizes = {"big": np.full(2, 4000, np.int64), "small": np.ones(2, np.int64)}
    for name, value in {**constants, **sizes}.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    new = [
        helper.make_node("ReduceMean", ["planes"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "limit"], ["white"]),
        helper.make_node("Where", ["white", "big", "small"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        helper.make_node("ReduceMax", ["product"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nil"], ["nothing"]),
        helper.make_node("Add", ["logits", "nothing"], ["raised"]),
    ]
    for offset, node in enumerate(new):
        graph.node.insert(at + offset, node)


@pytest.mark.parametrize("steady", [False, True])
def test_only_a_steady_model_runs_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steady: bool
) -> None:
    monkeypatch.setattr(opening, "measure_run", lambda *_: 0.0001)
    path = tmp_path / "model.onnx"
    write_spoiled(path, (lambda *_: None) if steady else multiply_matrices_of_white_pictures)
    artifact, content = read_artifact(path)
    assert artifact.is_steady == steady
    assert open_session(content, artifact, read_settings()).run_inline == steady
