"""Not a test: draws docs/pictures/shortcut.png: a network that learned a stamp beside one that
did not.

Command: python -m tests.training.shortcut
"""

import numpy as np
from matplotlib import colormaps
from PIL import Image

from tests.training import blobs
from training.gradcam.heatmap import render_heatmap
from training.networks.classifier import Classifier

PICTURE = "docs/pictures/shortcut.png"
ZOOM, GAP = 3, 12


def main() -> None:
    """Rows: the pictures, what the honest network sees in them, what the cheat does."""
    test = blobs.stamped(blobs.draw(48, 1))
    shown = [int(np.flatnonzero(test.labels == k)[0]) for k in range(len(blobs.LABELS))]
    pictures = test.pictures[shown]
    cheat = blobs.teach(blobs.stamped(blobs.draw(384)))
    rows = [pictures, *(overlay_maps(pictures, model) for model in (blobs.lesson().model, cheat))]
    side = ZOOM * blobs.SIDE
    canvas = np.full((len(rows) * (side + GAP) - GAP, 4 * (side + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            y, x = i * (side + GAP), j * (side + GAP)
            canvas[y : y + side, x : x + side] = picture.repeat(ZOOM, 0).repeat(ZOOM, 1)
    Image.fromarray(canvas).quantize(64).save(PICTURE, optimize=True)


def overlay_maps(pictures: np.ndarray, model: Classifier) -> np.ndarray:
    """The model's map of its answer over each picture, as the service draws it."""
    drawn = []
    for picture, cam in zip(pictures, blobs.explained(model, pictures)[1], strict=True):
        h = render_heatmap(cam, picture.shape[:2])
        color = 255 * colormaps["viridis"](h)[..., :3]
        weight = 0.6 * h[..., None]
        drawn.append((picture * (1 - weight) + color * weight).round().astype(np.uint8))
    return np.stack(drawn)


if __name__ == "__main__":
    main()
