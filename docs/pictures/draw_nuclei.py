"""Draws nuclei.jpg for docs/tutorials/nuclei.md: masks and maps of test pictures.

The model is the bundled one.

Run it in the root, with SIGHTGLASS_DATA set to the folder of data sets.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

MODEL = "models/nuclei/1/model.onnx"
FOLDER = Path(os.environ.get("SIGHTGLASS_DATA", "data"), "segmentation/nuclei/test/images")
PICTURES = 10  # the first five of them with the map of one pixel
EXPLAINED = 5
# Two are bright field, as many stained, the others fluorescence.
KINDS = ((140, 256, 4), (0, 140, 6))  # mean brightness from, to, and how many


def choose_pictures():
    """Paths of test pictures, of all kinds."""
    means = {path: np.asarray(Image.open(path).convert("L")).mean() for path in FOLDER.iterdir()}
    chosen = []
    for low, high, count in KINDS:
        kind = sorted(path for path, mean in means.items() if low <= mean < high)
        chosen += kind[:: max(len(kind) // count, 1)][:count]
    return chosen[::2] + chosen[1::2]


def smooth(cam, size):
    """The positive part of a map, normalised, in the size (width, height)."""
    heat = np.maximum(cam, 0)
    image = Image.fromarray(heat / (heat.max() + 1e-7))
    heat = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return heat / (heat.max() + 1e-7)


def find_nucleus(mask):
    """A pixel deep inside some nucleus near the middle: x, y."""
    inner = mask.astype(bool)
    while True:
        smaller = inner.copy()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            smaller &= np.roll(inner, shift, axis)
        if not smaller.any():
            break
        inner = smaller
    y, x = np.argwhere(inner)[0]
    return int(x), int(y)


def main():
    properties = {entry.key: entry.value for entry in onnx.load(MODEL).metadata_props}
    card = json.loads(properties["sightglass"])
    color = np.array([int(card["palette"][1][i : i + 2], 16) for i in (1, 3, 5)]) / 255
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    size = card["input"]["width"], card["input"]["height"]
    figure = Figure((9, 9))
    for place, path in enumerate(choose_pictures()[:PICTURES]):
        picture = Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        image = np.asarray(picture)[None]
        empty = np.zeros((1, 0), np.int64), np.zeros((1, 0, 5), np.int64)
        mask = session.run(
            ["mask"], dict(zip(("image", "target", "region"), (image, *empty), strict=True))
        )[0]
        base, nucleus = image[0] / 255, (mask[0] == 1)[..., None]
        views = [base, base * (1 - 0.5 * nucleus) + color * 0.5 * nucleus]
        if place < EXPLAINED:
            x, y = find_nucleus(mask[0])
            region = np.array([[[-2, x, y, x + 1, y + 1]]])
            feed = {"image": image, "target": np.array([[1]]), "region": region}
            heat = smooth(session.run(["cam"], feed)[0][0, 0], size)[..., None]
            views.append(
                base * (1 - 0.6 * heat) + colormaps["viridis"](heat[..., 0])[..., :3] * 0.6 * heat
            )
        for row, view in enumerate(views):
            down = row if place < EXPLAINED else row + 3
            axes = figure.add_subplot(5, 5, down * 5 + place % 5 + 1)
            axes.imshow(np.clip(view, 0, 1))
            axes.axis("off")
            if row == 2:
                axes.plot([x], [y], "+", color="red", markersize=9, markeredgewidth=1.5)
    figure.subplots_adjust(0, 0, 1, 1, 0.03, 0.03)
    figure.savefig("docs/pictures/nuclei.png", dpi=90)
    Image.open("docs/pictures/nuclei.png").convert("RGB").save(
        "docs/pictures/nuclei.jpg", quality=85
    )
    Path("docs/pictures/nuclei.png").unlink()


if __name__ == "__main__":
    main()
