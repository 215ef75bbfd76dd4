"""A tiny real model that segments, whose mask, probabilities and maps `answer` computes by hand.

A pixel is red, blue or background by its own colour and, a little, by the mean colour of its cell
of 4 x 4 pixels. The mean colours are the target layer. So the gradient of the sum of a class's
logits over the pixels M is, in each cell, the weights of the class times the number of pixels of M
in the cell. The map is that times the mean colours, summed over the channels.
"""

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.service.quadrants_model import encode, save

LABELS = ("background", "red", "blue")
BACKGROUND, RED, BLUE = range(3)
PALETTE = ("#000000", "#e69f00", "#56b4e9")
CELL = 4  # pixels of a side
DIRECT = np.array([[0, 0, 0], [10, -10, -10], [-10, -10, 10]], np.float32)  # class by channel
BIAS = np.array([4, 0, 0], np.float32)
THROUGH_CELLS = np.array([[0.1, 0.2, 0.1], [1, -0.3, -0.4], [-0.5, -0.2, 1]], np.float32)
COLOURS = ((40, 40, 40), (250, 20, 10), (10, 20, 240))  # of pixels that have these classes

Floats = NDArray[np.float64]


class Expected(NamedTuple):
    """What the model answers for one image."""

    mask: NDArray[np.int64]  # (H, W)
    probabilities: Floats  # (K, H, W)
    cells: Floats  # (C, h, w), the mean colours


def make_card(width: int = 32, height: int = 24, **changes: Any) -> dict[str, Any]:
    """The card, without its golden tests."""
    card = {
        "schema": 1,
        "architecture": "cells",
        "task": "segmentation",
        "labels": list(LABELS),
        "palette": list(PALETTE),
        "background": BACKGROUND,
        "input": {
            "mode": "RGB",
            "height": height,
            "width": width,
            "resize": None,
            "crop": None,
            "interpolation": "bilinear",
        },
        "gradcam": {"layer": "cells", "method": "seg-hirescam", "compiler": "backward"},
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
    height, width = card["input"]["height"], card["input"]["width"]
    h, w, labels = height // CELL, width // CELL, len(card["labels"])
    # The background counts only if there is no other class.
    counted = np.ones(labels, np.float32)
    if card["background"] is not None and card["background"] < labels:
        counted[card["background"]] = 0.5 / (height * width)
    direct, through, bias = (pad(array, labels) for array in (DIRECT, THROUGH_CELLS, BIAS))
    constants: dict[str, NDArray[Any]] = {
        "byte": np.array(255, np.float32),
        "direct": direct[..., np.newaxis, np.newaxis],
        "bias": bias,
        "through": through[..., np.newaxis, np.newaxis],
        "weights": through,
        "scales": np.array([1, 1, CELL, CELL], np.float32),
        "classes": np.arange(labels).reshape(1, labels, 1, 1),
        "counted": counted,
        "zero": np.array(0),
        "minus_one": np.array(-1),
        "minus_two": np.array(-2),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        "axis_3": np.array([3]),
        "axis_4": np.array([4]),
        "axes_2_3": np.array([2, 3]),
        **{name: np.array(i) for i, name in enumerate(("i_of", "i_l", "i_t", "i_r", "i_b"))},
        "columns": np.arange(width),
        "rows": np.arange(height),
        "flat_region": np.array([0, 0, height * width]),
        "flat_classes": np.array([0, labels, height * width]),
        "flat_cells": np.array([0, 3, h * w]),
        "map_shape": np.array([0, 0, h, w]),
        "split_rows": np.array([0, 0, h, CELL, width]),
        "split_columns": np.array([0, 0, h, w, CELL]),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        node("Div", ["floats", "byte"], ["scaled"]),
        node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["planes"], ["cells"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        node("Resize", ["cells", "", "scales"], ["wide"], mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Conv", ["planes", "direct", "bias"], ["own"]),
        node("Conv", ["wide", "through"], ["around"]),
        node("Add", ["own", "around"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("ArgMax", ["logits"], ["top"], axis=1, keepdims=0),
        node("Cast", ["top"], ["mask"], to=TensorProto.UINT8),
        *(
            node("Gather", ["region", f"i_{name}"], [f"r_{name}"], axis=2)
            for name in ("of", "l", "t", "r", "b")
        ),
        *(node("Unsqueeze", [f"r_{side}", "axis_2"], [f"u_{side}"]) for side in "ltrb"),
        node("GreaterOrEqual", ["columns", "u_l"], ["after_left"]),
        node("Less", ["columns", "u_r"], ["before_right"]),
        node("And", ["after_left", "before_right"], ["across"]),
        node("GreaterOrEqual", ["rows", "u_t"], ["after_top"]),
        node("Less", ["rows", "u_b"], ["before_bottom"]),
        node("And", ["after_top", "before_bottom"], ["down"]),
        node("Unsqueeze", ["across", "axis_2"], ["across_4"]),
        node("Unsqueeze", ["down", "axis_3"], ["down_4"]),
        node("And", ["across_4", "down_4"], ["box"]),  # (N, T, H, W)
        node("Cast", ["box"], ["box_floats"], to=TensorProto.FLOAT),
        node("Reshape", ["box_floats", "flat_region"], ["box_flat"]),
        node("Unsqueeze", ["top", "axis_1"], ["top_4"]),  # (N, 1, H, W)
        node("Equal", ["top_4", "classes"], ["is_class"]),
        node("Cast", ["is_class"], ["one_hot"], to=TensorProto.FLOAT),
        node("Reshape", ["one_hot", "flat_classes"], ["one_hot_flat"]),
        node("Transpose", ["one_hot_flat"], ["by_pixel"], perm=[0, 2, 1]),
        node("MatMul", ["box_flat", "by_pixel"], ["counts"]),  # (N, T, K)
        node("Mul", ["counts", "counted"], ["weighted"]),
        node("ArgMax", ["weighted"], ["largest"], axis=2, keepdims=0),
        node("Less", ["target", "zero"], ["is_open"]),
        node("Where", ["is_open", "largest", "target"], ["chosen"]),  # (N, T)
        node("Equal", ["r_of", "minus_one"], ["as_target"]),
        node("Where", ["as_target", "chosen", "r_of"], ["of"]),
        node("Unsqueeze", ["of", "axes_2_3"], ["of_4"]),
        node("Equal", ["top_4", "of_4"], ["is_of"]),
        node("Equal", ["r_of", "minus_two"], ["is_any"]),
        node("Unsqueeze", ["is_any", "axes_2_3"], ["is_any_4"]),
        node("Or", ["is_of", "is_any_4"], ["may_count"]),
        node("And", ["box", "may_count"], ["selected"]),
        node("Cast", ["selected"], ["m"], to=TensorProto.FLOAT),
        node("Reshape", ["m", "split_rows"], ["by_row"]),
        node("ReduceSum", ["by_row", "axis_3"], ["rows_counted"], keepdims=0),
        node("Reshape", ["rows_counted", "split_columns"], ["by_column"]),
        node("ReduceSum", ["by_column", "axis_4"], ["in_cells"], keepdims=0),  # (N, T, h, w)
        node("Gather", ["weights", "chosen"], ["gradient"], axis=0),  # (N, T, C)
        node("Reshape", ["cells", "flat_cells"], ["cells_flat"]),
        node("MatMul", ["gradient", "cells_flat"], ["evidence_flat"]),
        node("Reshape", ["evidence_flat", "map_shape"], ["evidence"]),
        node("Mul", ["in_cells", "evidence"], ["cam"]),
    ]  # fmt: skip
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [
            tensor("image", TensorProto.UINT8, ["N", height, width, 3]),
            tensor("target", TensorProto.INT64, ["N", "T"]),
            tensor("region", TensorProto.INT64, ["N", "T", 5]),
        ],
        [
            tensor("mask", TensorProto.UINT8, ["N", height, width]),
            tensor("probabilities", TensorProto.FLOAT, ["N", labels, height, width]),
            tensor("cam", TensorProto.FLOAT, ["N", "T", h, w]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def pad(array: NDArray[np.float32], labels: int) -> NDArray[np.float32]:
    """The weights for so many labels: ours, then those of classes that are never the largest."""
    added = np.full((max(0, labels - len(array)), *array.shape[1:]), -1, np.float32)
    return np.concatenate([array[:labels], added])


def answer(pixels: NDArray[np.uint8]) -> Expected:
    """What the model must answer for its input (H, W, 3), computed without onnxruntime."""
    scaled = pixels.astype(np.float64) / 255
    height, width, channels = scaled.shape
    cells = scaled.reshape(height // CELL, CELL, width // CELL, CELL, channels).mean((1, 3))
    wide = cells.repeat(CELL, 0).repeat(CELL, 1)  # (H, W, C)
    logits = scaled @ DIRECT.T + BIAS + wide @ THROUGH_CELLS.T  # (H, W, K)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    return Expected(logits.argmax(-1), probabilities.transpose(2, 0, 1), cells.transpose(2, 0, 1))


def expect_cam(expected: Expected, selected: NDArray[np.bool_], target: int) -> Floats:
    """The map of a class for the selected pixels (H, W)."""
    _, h, w = expected.cells.shape
    counts = selected.reshape(h, CELL, w, CELL).sum((1, 3))
    cam: Floats = counts * np.tensordot(THROUGH_CELLS[target].astype(np.float64), expected.cells, 1)
    return cam


def paint(*boxes: tuple[int, tuple[int, int, int, int]], size: tuple[int, int]) -> Image.Image:
    """A background of `size` with boxes of classes: class and left, top, right, bottom."""
    image = Image.new("RGB", size, COLOURS[BACKGROUND])
    for label, box in boxes:
        image.paste(COLOURS[label], box)
    return image


def write_model(path: Path, **changes: Any) -> dict[str, Any]:
    """Write an artifact and return its card; `changes` replace entries of the card."""
    golden = changes.pop("golden", None)
    card = make_card(changes.pop("width", 32), changes.pop("height", 24), **changes)
    card["golden"] = make_golden(card) if golden is None else golden
    save(make_graph(card), card, path)
    return card


def make_golden(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers for two images: one for the whole of it, one for a box."""
    width, height = card["input"]["width"], card["input"]["height"]
    golden = []
    for target, box in ((-1, (0, 0, width, height)), (BLUE, (9, 5, width, height - 3))):
        boxes = ((RED, (2, 3, 15, 14)), (BLUE, (11, 9, width - 3, height - 2)))
        image = paint(*boxes, size=(width, height))
        expected = answer(np.asarray(image))
        counts = np.bincount(expected.mask.ravel(), minlength=len(card["labels"]))
        index = int(counts[1:].argmax()) + 1 if target < 0 else target
        left, top, right, bottom = box
        inside = np.zeros(expected.mask.shape, bool)
        inside[top:bottom, left:right] = True
        mask = Image.fromarray(expected.mask.astype(np.uint8))
        golden.append(
            {
                "image": base64.b64encode(encode(image)).decode(),
                "target": target,
                "region": [-1, *box],
                "label": card["labels"][int(counts.argmax())],
                "shares": (counts / counts.sum()).tolist(),
                "mask": base64.b64encode(encode(mask)).decode(),
                "cam": expect_cam(expected, inside & (expected.mask == index), index).tolist(),
            }
        )
    return golden


def read_palette_png(content: bytes) -> NDArray[np.uint8]:
    """The values of a PNG of mode P."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        return np.asarray(image)
