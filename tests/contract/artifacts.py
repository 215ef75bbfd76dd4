"""Models for what the quadrants alone can't show: one that takes its time, one that can fail."""

import timeit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from tests.server import Server, wait_until
from tests.service.quadrants_model import make_card, make_golden, make_graph, save

POISON = 77  # as a picture's first red, it makes the fragile model fail
SIDE = 900  # of the matrix that makes the slow model slow
Constants = Mapping[str, np.ndarray[Any, Any]]  # by name


def write_slow_model(path: Path, seconds: float = 0.15) -> None:
    """The quadrants, but a pass on one thread takes about so long, however many rows it has."""
    weights = np.full((SIDE, SIDE), 1 / SIDE, np.float32)
    rounds = max(8, round(seconds / measure_product(weights)))
    nodes = [
        helper.make_node("ReduceMean", ["floats"], ["level"], keepdims=0),
        helper.make_node("Mul", ["heavy", "level"], ["heavy_0"]),
        *(
            helper.make_node("MatMul", [f"heavy_{i}", "heavy"], [f"heavy_{i + 1}"])
            for i in range(rounds)
        ),
        helper.make_node("ReduceMean", [f"heavy_{rounds}"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["no_change"]),
    ]
    constants = {"heavy": weights, "nothing": np.array(0, np.float32)}
    _write_changed(path, nodes, constants)


def measure_product(weights: np.ndarray[Any, Any]) -> float:
    """Seconds of a matrix's product with itself in onnxruntime, on one thread."""
    matrix = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, weights.shape)
    square = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, weights.shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])], "", [matrix], [square]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return min(timeit.repeat(lambda: session.run(None, {"x": weights}), number=1, repeat=10))


def write_fragile_model(path: Path) -> None:
    """The quadrants, but a pass with a picture whose first red is `POISON` fails as a whole."""
    nodes = [
        helper.make_node("Gather", ["only", "places"], ["found"], axis=0),  # place 1 is none
        helper.make_node("ReduceMax", ["found"], ["no_change"], keepdims=0),
    ]
    _write_poisonable(path, nodes, {"only": np.array([0], np.float32)})


def write_bursting_model(path: Path) -> None:
    """The quadrants, but a picture whose first red is `POISON` takes four terabytes of memory."""
    nodes = [
        helper.make_node("ReduceMax", ["places"], ["any"], keepdims=1),
        helper.make_node("Mul", ["any", "tera"], ["much"]),
        helper.make_node("Add", ["much", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["vast"]),
        helper.make_node("ReduceMax", ["vast"], ["no_change"], keepdims=0),
    ]
    constants = {"tera": np.array(1 << 40, np.int64), "one": np.array(1, np.int64)}
    _write_poisonable(path, nodes, constants)


def _write_poisonable(path: Path, nodes: list[onnx.NodeProto], constants: Constants) -> None:
    """`nodes` make `no_change` of `places` (N,): 1 where a picture is poisoned, else 0."""
    looking = [
        helper.make_node("Gather", ["floats", "first"], ["rows"], axis=1),
        helper.make_node("Gather", ["rows", "first"], ["pixels"], axis=1),
        helper.make_node("Gather", ["pixels", "first"], ["reds"], axis=1),
        helper.make_node("Equal", ["reds", "poison"], ["poisoned"]),
        helper.make_node("Cast", ["poisoned"], ["places"], to=onnx.TensorProto.INT64),
    ]
    poison: dict[str, np.ndarray[Any, Any]] = {
        "first": np.array(0, np.int64),
        "poison": np.array(POISON, np.float32),
    }
    _write_changed(path, [*looking, *nodes], {**poison, **constants})


def _write_changed(path: Path, nodes: list[onnx.NodeProto], constants: Constants) -> None:
    """Put `nodes`, which make `no_change` of `floats`, before the logits."""
    card = make_card()
    model = make_graph(card)
    graph = model.graph
    at = next(i for i, node in enumerate(graph.node) if "logits" in node.output)
    old = list(graph.node)
    old[at].output[0] = "plain_logits"
    added = helper.make_node("Add", ["plain_logits", "no_change"], ["logits"])
    del graph.node[:]
    graph.node.extend([*old[: at + 1], *nodes, added, *old[at + 1 :]])
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    card["golden"] = make_golden(model, card)
    save(model, card, path)


def wait_loaded(server: Server) -> None:
    """Return once no version is loading any more."""

    def is_loaded() -> bool:
        models = server.client.get("/models").json()["models"]
        return all(v["state"] != "loading" for m in models for v in m["versions"])

    server.wait_ready()
    wait_until(is_loaded, describe=server.read_log)
