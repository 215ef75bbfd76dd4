"""A tiny real model whose answers can be computed by hand.

It takes gray or coloured images of `side` x `side` and reduces them to a 4 x 4 grid of brightness.
Each quarter has a label, whose logit is ten times the mean brightness of the quarter. Grad-CAM is
exact by construction: channel k of the target layer holds quarter k, so the map of label k is the
brightness of quarter k, minus a tenth of the other quarters' brightness.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.heic import HEIC, encode_heic

LABELS = ("top left", "top right", "bottom left", "bottom right")
GRID = 4


def make_card(side: int = 32, mode: str = "RGB", **changes: Any) -> dict[str, Any]:
    """The card, without its golden tests."""
    card = {
        "schema": 1,
        "architecture": "quadrants",
        "task": "multiclass",
        "labels": list(LABELS),
        "input": {
            "mode": mode,
            "height": side,
            "width": side,
            "resize": side,
            "crop": "center",
            "interpolation": "bilinear",
        },
        "gradcam": {"layer": "grid", "method": "gradcam", "compiler": "closed-form"},
        "training": {"data": "none"},
        "metrics": None,
        "checks": {},
        "golden": [],
        "created": "2026-01-01T00:00:00+00:00",
        "tools": {"onnx": onnx.__version__},
        "license": "Apache-2.0",
    }
    return card | changes


def make_graph(card: dict[str, Any]) -> onnx.ModelProto:
    """The graph for a card made by `make_card`."""
    side, channels = card["input"]["height"], len(card["input"]["mode"])
    height, width = card["input"]["height"], card["input"]["width"]
    labels = len(card["labels"])
    masks = np.zeros((1, len(LABELS), GRID, GRID), np.float32)
    for label in range(len(LABELS)):
        row, column = (label // 2) * GRID // 2, (label % 2) * GRID // 2
        masks[0, label, row : row + GRID // 2, column : column + GRID // 2] = 1
    weights = np.full((labels, len(LABELS)), -0.1, np.float32)  # label by channel
    weights[: len(LABELS)] += 1.1 * np.eye(len(LABELS), dtype=np.float32)[:labels]
    constants = {
        "masks": masks,
        "weights": weights,
        "weights_t": np.ascontiguousarray(weights.T) * 10 / (GRID * GRID / 4),
        "byte": np.array(255, np.float32),
        "plane": np.array([1], np.int64),
        "columns": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Div", ["floats", "byte"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes", "plane"], ["gray"], keepdims=1),
        helper.make_node(
            "AveragePool",
            ["gray"],
            ["grid"],
            kernel_shape=[height // GRID, width // GRID],
            strides=[height // GRID, width // GRID],
        ),
        helper.make_node("Mul", ["grid", "masks"], ["features"]),
        helper.make_node("ReduceSum", ["features", "columns"], ["sums"], keepdims=0),
        helper.make_node("MatMul", ["sums", "weights_t"], ["logits"]),
    ]
    assert side % GRID == 0
    return finish_graph(nodes, constants, (height, width, channels), GRID)


def finish_graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray[Any, Any]],
    shape: tuple[int, int, int],
    grid: int,
) -> onnx.ModelProto:
    """A model of `nodes`, which make `features` (N, C, grid, grid) and `logits` (N, K) of `floats`.

    `floats` is the image of `shape` (H, W, C). Grad-CAM has a closed form: a label's map is the sum
    of the features weighted by its row of the constant `weights` (K, C).
    """
    tensor = helper.make_tensor_value_info
    labels = len(constants["weights"])
    before = [helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)]
    after = [
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["top"], axis=1, keepdims=1),
        helper.make_node("Less", ["target", "zero"], ["own"]),
        helper.make_node("Where", ["own", "top", "target"], ["chosen"]),
        helper.make_node("Gather", ["weights", "chosen"], ["alpha"], axis=0),
        helper.make_node("Einsum", ["alpha", "features"], ["cam"], equation="ntc,ncij->ntij"),
    ]
    constants = {**constants, "zero": np.array(0, np.int64)}
    graph = helper.make_graph(
        [*before, *nodes, *after],
        "classifier",
        [
            tensor("image", TensorProto.UINT8, ["N", *shape]),
            tensor("target", TensorProto.INT64, ["N", "T"]),
        ],
        [
            tensor("logits", TensorProto.FLOAT, ["N", labels]),
            tensor("probabilities", TensorProto.FLOAT, ["N", labels]),
            tensor("cam", TensorProto.FLOAT, ["N", "T", grid, grid]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def light(quarter: int, size: tuple[int, int] = (32, 32), level: int = 255) -> Image.Image:
    """A black image with one bright quarter."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    rows = slice(height // 2, None) if quarter // 2 else slice(None, height // 2)
    columns = slice(width // 2, None) if quarter % 2 else slice(None, width // 2)
    pixels[rows, columns] = level
    return Image.fromarray(pixels)


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    if file_format == HEIC:
        return encode_heic(image, **options)
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def add_familiarity(model: onnx.ModelProto) -> None:
    """Give a graph the output `familiarity`: the mean of the pixels."""
    constant = numpy_helper.from_array(np.array([1, 2, 3]), "all_pixels")
    model.graph.initializer.append(constant)
    inputs, outputs = ["floats", "all_pixels"], ["familiarity"]
    model.graph.node.append(helper.make_node("ReduceMean", inputs, outputs, keepdims=0))
    output = helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N"])
    model.graph.output.append(output)


def write_model(path: Path, **changes: Any) -> dict[str, Any]:
    """Write an artifact and return its card; `changes` replace entries of the card."""
    golden = changes.pop("golden", None)
    side = changes.pop("side", 32)
    mode = changes.pop("mode", "RGB")
    card = make_card(side, mode, **changes)
    model = make_graph(card)
    card["golden"] = golden if golden is not None else make_golden(model, card)
    save(model, card, path)
    return card


def save(model: onnx.ModelProto, card: dict[str, Any], path: Path) -> None:
    """Write the file under another name, then rename it."""
    helper.set_model_props(model, {"sightglass": json.dumps(card)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(model.SerializeToString())
    temporary.rename(path)


def make_golden(model: onnx.ModelProto, card: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of the graph for two images."""
    wanted = card["input"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    golden = []
    for quarter in (0, 3):
        image = light(quarter, (wanted["width"], wanted["height"])).convert(wanted["mode"])
        pixels = np.asarray(image).reshape(1, wanted["height"], wanted["width"], -1)
        target = quarter % len(card["labels"])
        logits, probabilities, cam = session.run(
            None, {"image": pixels, "target": np.array([[target]], np.int64)}
        )
        golden.append(
            {
                "image": base64.b64encode(encode(image)).decode(),
                "target": target,
                "label": card["labels"][int(logits[0].argmax())],
                "probabilities": probabilities[0].tolist(),
                "cam": cam[0, 0].tolist(),
            }
        )
    return golden
