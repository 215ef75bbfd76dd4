"""Models that are slow, that fail, or that use too much memory."""

import timeit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from tests.server import Server, wait_until
from tests.service.quadrants_model import make_card, make_golden, make_graph, save, write_model

POISON = 77  # an image fails in the fragile model if its first red value is this
SIDE = 900  # of the matrix in the slow model
Constants = Mapping[str, np.ndarray[Any, Any]]  # by name


def write_slow_model(path: Path, seconds: float = 0.15) -> None:
    """Write the quadrants model; a batch of any size takes about `seconds` on one thread."""
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
    """Return the seconds that one thread of onnxruntime takes to square the matrix."""
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


def write_strict_models(models: Path) -> None:
    """Write two versions of a model, one that can fail, and one that cannot be loaded."""
    for version in ("1", "2"):
        write_model(models / "quadrants" / version / "model.onnx")
    write_fragile_model(models / "fragile" / "1" / "model.onnx")
    broken = models / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")


def write_fragile_model(path: Path) -> None:
    """Write the quadrants model. A batch fails if it contains an image with `POISON`."""
    nodes = [
        helper.make_node("Gather", ["only", "places"], ["found"], axis=0),  # index 1 does not exist
        helper.make_node("ReduceMax", ["found"], ["no_change"], keepdims=0),
    ]
    _write_poisonable(path, nodes, {"only": np.array([0], np.float32)})


def write_bursting_model(path: Path) -> None:
    """Write the quadrants model. An image with `POISON` needs four terabytes of memory."""
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
    """Write a model whose `nodes` turn `places` (N,) into `no_change`.

    `places` is 1 where an image has `POISON`, else 0.
    """
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
    """Insert `nodes`, which compute `no_change` from `floats`, before the logits."""
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
    """Wait until no version is loading."""

    def is_loaded() -> bool:
        models = server.client.get("/models").json()["models"]
        return all(v["state"] != "loading" for m in models for v in m["versions"])

    server.wait_ready()
    wait_until(is_loaded, describe=server.read_log)
