"""The pointing game on mosaics of four pictures of four classes.

After Zhang et al. 2018, "Excitation Backprop", and Arias-Duart et al. 2022, "Focus!": the heat for
a class must lie on that class's tile. A random guess is right in one of four cases. Only pictures
that the network classifies correctly are used. Works on arrays and a function that runs the graph.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.gradcam.heatmap import render_heatmap
from training.imaging.preprocessing import GraphRunner, Pixels, to_pil_image

MIN_TILE_SIDE = 24  # pixels
MIN_MAP_CELLS = 4  # per side: two per tile
MIN_HIT_RATE = 0.9


def find_obstacle(height: int, width: int, cells: tuple[int, int], classes: int) -> str:
    """The reason why the game cannot be played, or an empty string."""
    if min(height, width) // 2 < MIN_TILE_SIDE:
        return (
            f"a picture of {width} x {height} has no room for four: "
            f"tiles under {MIN_TILE_SIDE} pixels"
        )
    if min(cells) < MIN_MAP_CELLS:
        return f"a map of {cells[1]} x {cells[0]} is too coarse to tell four tiles apart"
    if classes < 4:
        return f"four classes with pictures answered right are needed, there are {classes}"
    return ""


def play_pointing_game(
    run: GraphRunner,
    pictures: Pixels,  # (N, H, W, C), classified correctly
    labels: NDArray[np.int64],  # (N,)
    count: int = 50,
    seed: int = 0,
) -> dict[str, Any]:
    """How often the hottest pixel lies on the target's tile, and the share of heat on it.

    An empty map misses. It has no heat to share, so it does not count there; None if all are empty.
    """
    rng = np.random.default_rng(seed)
    hits, inside = [], []
    for _ in range(count):
        classes = rng.choice(np.unique(labels), 4, replace=False)
        rows = [rng.choice(np.flatnonzero(labels == k)) for k in classes]
        image = make_mosaic(pictures[rows])
        (cams,) = run(image[None], classes[None])[2]  # (4, h, w)
        for tile, cam in enumerate(cams):
            heat = render_heatmap(cam, image.shape[:2])
            mask = make_tile_index(image.shape[:2]) == tile
            hits.append(bool(heat.any() and mask.flat[heat.argmax()]))
            if heat.any():
                inside.append(float(heat[mask].sum() / heat.sum()))
    return {
        "mosaics": count,
        "hits": round(float(np.mean(hits)), 4),
        "heat_inside": round(float(np.mean(inside)), 4) if inside else None,
        "chance": 0.25,
    }


def find_pointing_doubts(figures: dict[str, Any]) -> list[str]:
    """Whether the hit rate is too low."""
    if figures["hits"] >= MIN_HIT_RATE:
        return []
    return [f"of four pictures in one the map finds the right one in {figures['hits']:.0%}"]


def make_mosaic(four: Pixels) -> Pixels:
    """Four pictures (4, H, W, C) at half their size, as one: (H, W, C)."""
    mosaic: Pixels = np.zeros_like(four[0])
    places = make_tile_index(mosaic.shape)
    for tile, picture in enumerate(four):
        ys, xs = np.nonzero(places == tile)
        size = int(xs.max() - xs.min() + 1), int(ys.max() - ys.min() + 1)
        small = np.asarray(to_pil_image(picture).resize(size, Image.Resampling.BILINEAR))
        mosaic[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = small.reshape(*size[::-1], -1)
    return mosaic


def make_tile_index(size: tuple[int, ...]) -> NDArray[np.int64]:
    """The tile of each pixel, 0..3 in reading order: (H, W)."""
    height, width = size[:2]
    below, right = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    return np.asarray(2 * below[:, None] + right[None], np.int64)
