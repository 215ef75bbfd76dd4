"""A tiny model that learned a shortcut: images of one class often had a stamp.

It distinguishes green blobs from blue ones. It was fitted (logistic regression on the mean green,
blue and red) to images in which most blue blobs had a red stamp in the corner. So the stamp alone
makes it answer "blue", and its map, the closed form of Grad-CAM, highlights the stamp.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from tests.service.quadrants_model import finish_graph, make_card, make_golden, save

LABELS = ("green", "blue")
SIDE, GRID = 32, 8
CHANNELS = [1, 2, 0]  # green, blue, red
STAMP = 6  # side in pixels
PIXELS = (SIDE, SIDE, 3)
Pixels = NDArray[np.uint8]


def paint(label: int, stamped: bool, generator: np.random.Generator) -> Pixels:
    """An image (32, 32, 3) of a blob near the middle, with or without the stamp."""
    pixels = generator.integers(0, 12, PIXELS).astype(np.uint8)
    top, left = generator.integers(10, 14, 2)
    pixels[top : top + 6, left : left + 6, label + 1] = generator.integers(60, 140)
    if stamped:
        pixels[:STAMP, :STAMP] = (255, 0, 0)
    return pixels


def paint_many(count: int, stamped: bool, seed: int) -> list[Pixels]:
    """Images that alternate between both classes, all with the stamp or all without it."""
    generator = np.random.default_rng(seed)
    return [paint(number % 2, stamped, generator) for number in range(count)]


def fit() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (2, 3) and bias (2,) by gradient descent; seven of ten blue blobs have the stamp."""
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    pictures = [
        paint(label, bool(label) and generator.random() < 0.7, generator)
        for label in labels.tolist()
    ]
    features = np.stack(pictures)[..., CHANNELS].mean((1, 2)) / 255  # (400, 3)
    features = np.column_stack([features, np.ones(len(features))])
    weights = np.zeros((2, 4))
    for _ in range(1500):
        scores = np.exp(features @ weights.T)
        error = scores / scores.sum(1, keepdims=True) - np.eye(2)[labels]  # (400, 2)
        weights -= 20 * error.T @ features / len(features)
    return weights[:, :3].astype(np.float32), weights[:, 3].astype(np.float32)


def make_graph(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> onnx.ModelProto:
    """The features are the three colours on an 8 x 8 grid; the head is their mean and a product."""
    constants = {
        "byte": np.array(255, np.float32),
        "colours": np.array(CHANNELS),
        "columns": np.array([2, 3]),
        "weights": weights,
        "weights_t": np.ascontiguousarray(weights.T),
        "bias": bias,
    }
    cell = [SIDE // GRID] * 2
    nodes = [
        helper.make_node("Div", ["floats", "byte"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["planes", "colours"], ["sorted"], axis=1),
        helper.make_node("AveragePool", ["sorted"], ["features"], kernel_shape=cell, strides=cell),
        helper.make_node("ReduceMean", ["features", "columns"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights_t"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    return finish_graph(nodes, constants, PIXELS, GRID)


def measure_attention(model: onnx.ModelProto, pictures: list[Pixels]) -> dict[str, Any]:
    """The mean maps that an exporter writes to the card, in plain loops."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: dict[str, list[tuple[float, NDArray[np.float64]]]] = {label: [] for label in LABELS}
    for pixels in pictures:
        feeds = {"image": pixels[np.newaxis], "target": np.array([[-1]])}
        logits, cam = session.run(["logits", "cam"], feeds)
        heat = np.maximum(cam[0, 0].astype(np.float64), 0)
        if not heat.any():
            continue
        share = sum(
            heat[row, column] * measure_border(row, column)
            for row in range(GRID)
            for column in range(GRID)
        )
        seen[LABELS[int(logits[0].argmax())]].append((share / heat.sum(), heat / heat.max()))

    def average(maps: list[tuple[float, NDArray[np.float64]]]) -> dict[str, Any]:
        return {
            "border_share": float(np.mean([share for share, _ in maps])),
            "mean": np.mean([heat for _, heat in maps], axis=0).tolist(),
        }

    classes = {label: {"count": len(maps), **average(maps)} for label, maps in seen.items() if maps}
    maps = [one for found in seen.values() for one in found]
    return {"maps": len(maps), **average(maps), "classes": classes}


def measure_border(row: int, column: int, fine: int = 500) -> float:
    """The part of one cell within 10 % of the border, by counting points."""
    points = (np.arange(fine) + 0.5) / fine
    ys, xs = (row + points) / GRID, (column + points) / GRID  # (fine,) of 0..1
    inside = np.outer((ys > 0.1) & (ys < 0.9), (xs > 0.1) & (xs < 0.9))
    return float(1 - inside.mean())


def write_stamp_model(path: Path) -> dict[str, Any]:
    """Write the artifact, with the mean maps of images without stamp, and return its card."""
    model = make_graph(*fit())
    card = make_card(SIDE, architecture="stamp", labels=list(LABELS))
    card["gradcam"]["layer"] = "colours"
    card["attention"] = measure_attention(model, paint_many(100, stamped=False, seed=1))
    card["golden"] = make_golden(model, card)
    save(model, card, path)
    return card
