"""Faithfulness: does the probability change when the pixels that a map highlights are removed?

Deletion and insertion curves (Petsiuk et al. 2018, "RISE"): pixels in the map's order, hottest
first, are removed from the picture, or inserted into its blur, and the probability of the explained
class is recorded. Unlike in the paper, both curves run between the picture and its Gaussian blur
(sigma: an eighth of the longer side), because networks have never seen blank pictures. The score is
the area under insertion minus that under deletion: 0 in expectation for a random order, at most 1.
An empty map orders the pixels at random.

Works on arrays and a prediction function. Knows nothing of networks or of how maps are made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

from training.gradcam.heatmap import FloatArray, is_empty_map, render_heatmap, render_signed_heatmap
from training.imaging.preprocessing import Pixels, Predictor, to_pil_image

CURVE_STEPS = 10  # of a curve
BLURRED_AREA = 0.2  # share of the picture that is blurred in the part tests
BLUR_SIGMA = 1 / 8  # sigma of the Gaussian, as a share of the longer side
CURVES = ("deletion", "insertion", "random", "centre_deletion", "centre_insertion")
PARTS = ("hottest", "coldest", "against", "moved")


@dataclass(frozen=True)
class Faithfulness:
    """The probabilities of the explained class, for each picture."""

    empty: NDArray[np.bool_]  # (N,): whether the map is empty
    curves: dict[str, NDArray[np.float64]]  # CURVES, each (N, STEPS + 1)
    parts: dict[
        str, NDArray[np.float64]
    ]  # with no part blurred ("none") and with each of PARTS, (N,)

    def compute_areas(self, name: str) -> NDArray[np.float64]:
        """The area under each picture's curve: (N,) in 0..1."""
        return np.asarray(np.trapezoid(self.curves[name], dx=1 / CURVE_STEPS))

    @property
    def scores(self) -> NDArray[np.float64]:
        """The area under insertion minus that under deletion: (N,)."""
        return self.compute_areas("insertion") - self.compute_areas("deletion")

    @property
    def centre_scores(self) -> NDArray[np.float64]:
        """The scores of a blob in the middle of each picture."""
        return self.compute_areas("centre_insertion") - self.compute_areas("centre_deletion")


def measure_faithfulness(
    predict: Predictor,
    pictures: Pixels,  # (N, H, W, C)
    cams: NDArray[np.float32],  # (N, h, w), signed
    classes: NDArray[np.int64],  # (N,): the class that each map explains
    seed: int = 0,
) -> Faithfulness:
    """Measure all curves and parts of every picture, with 51 predictions per picture."""
    rng = np.random.default_rng(seed)
    rows = [
        measure_picture(predict, picture, cam, int(k), rng)
        for picture, cam, k in zip(pictures, cams, classes, strict=True)
    ]
    return Faithfulness(
        np.array([is_empty_map(cam) for cam in cams]),
        {name: np.stack([curves[name] for curves, _ in rows]) for name in CURVES},
        {name: np.array([parts[name] for _, parts in rows]) for name in ("none", *PARTS)},
    )


def measure_picture(
    predict: Predictor, picture: Pixels, cam: FloatArray, class_index: int, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Measure one picture (H, W, C): its curves and its parts, predicted in one batch."""
    blurred = blur_picture(picture)
    heat = render_heatmap(cam, picture.shape[:2])  # (H, W)
    orders = (
        rank_pixels(heat, rng),
        rng.permutation(heat.size),
        rank_pixels(-measure_center_distance(heat.shape), rng),
    )
    away, back = (picture, blurred), (blurred, picture)
    ways = [(away, orders[0]), (back, orders[0]), (away, orders[1])]
    ways += [(away, orders[2]), (back, orders[2])]
    shares = np.arange(1, CURVE_STEPS) / CURVE_STEPS
    variants = [picture, blurred]
    for (base, other), order in ways:
        variants += [replace_pixels(base, other, order[: round(s * heat.size)]) for s in shares]
    variants += [
        np.where(part[..., None], blurred, picture)
        for part in make_part_masks(cam, heat, rng).values()
    ]
    p = predict(np.stack(variants))[:, class_index].astype(np.float64)
    inner = p[2 : 2 + len(CURVES) * len(shares)].reshape(len(CURVES), -1)
    ends = {"away": (p[0], p[1]), "back": (p[1], p[0])}
    curves = {}
    for name, middle in zip(CURVES, inner, strict=True):
        first, last = ends["back" if "insertion" in name else "away"]
        curves[name] = np.array([first, *middle, last])
    return curves, {"none": p[0], **dict(zip(PARTS, p[-len(PARTS) :], strict=True))}


def make_part_masks(
    cam: FloatArray, heat: FloatArray, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Masks (H, W): the hottest fifth, the least |cam|, the most negative, the hottest shifted.

    All have the same size, except that the third has negative pixels only.
    """
    hot = (heat >= np.quantile(heat, 1 - BLURRED_AREA)) & (heat > 0)
    signed = render_signed_heatmap(cam, (heat.shape[0], heat.shape[1]))
    moved = np.roll(hot, (heat.shape[0] // 2, heat.shape[1] // 2), (0, 1))
    cold, against = np.zeros(hot.shape, bool), np.zeros(hot.shape, bool)
    cold.flat[rank_pixels(-np.abs(signed), rng)[: hot.sum()]] = True
    against.flat[rank_pixels(-signed, rng)[: hot.sum()]] = True
    return dict(zip(PARTS, (hot, cold, against & (signed < 0), moved), strict=True))


def rank_pixels(heat: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """The indices of the pixels, hottest first; pixels of equal heat in random order."""
    return np.lexsort((rng.random(heat.size), -heat.ravel()))


def measure_center_distance(size: tuple[int, ...]) -> FloatArray:
    """The distance from the middle, in halves of the sides: (H, W)."""
    y, x = (np.abs((np.arange(side) + 0.5) / side * 2 - 1) for side in size)
    return np.hypot(y[:, None], x)


def replace_pixels(base: Pixels, other: Pixels, pixels: NDArray[np.int64]) -> Pixels:
    """`base` with these pixels taken from `other`: (H, W, C)."""
    made = base.reshape(-1, base.shape[2]).copy()
    made[pixels] = other.reshape(-1, base.shape[2])[pixels]
    return made.reshape(base.shape)


def blur_picture(picture: Pixels) -> Pixels:
    """The picture (H, W, C) after a Gaussian blur."""
    sigma = BLUR_SIGMA * max(picture.shape[:2])
    blurred = to_pil_image(picture).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred).reshape(picture.shape)


def summarize_faithfulness(result: Faithfulness) -> dict[str, Any]:
    """Means over all pictures; those of the parts, over the pictures whose map is not empty."""
    shown = ~result.empty
    gap = result.parts["coldest"] - result.parts["hottest"]
    return {
        "pictures": len(result.empty),
        "empty": round_figure(result.empty.mean()),
        "deletion": round_figure(result.compute_areas("deletion").mean()),
        "insertion": round_figure(result.compute_areas("insertion").mean()),
        "score": round_figure(result.scores.mean()),
        "random": round_figure(result.compute_areas("random").mean()),
        "centre_score": round_figure(result.centre_scores.mean()),
        "blurred": {
            **{name: round_figure(p[shown].mean()) for name, p in result.parts.items()},
            "hottest_hurts_more": round_figure((gap[shown] > 0).mean()),
        }
        if shown.any()
        else None,
    }


def find_faithfulness_doubts(result: Faithfulness) -> list[str]:
    """What these pictures fail to show. Each gap must exceed twice its standard error."""
    shown = ~result.empty
    hottest = result.parts["hottest"][shown]
    doubts = []
    if result.empty.mean() > 0.1:
        doubts.append(f"{result.empty.mean():.0%} of the maps are empty")
    if not is_clearly_positive(result.scores):
        doubts.append("the map orders pixels no better than chance")
    if not is_clearly_positive(result.scores - result.centre_scores):
        doubts.append("a blob in the middle of the picture does as well as the map")
    if not is_clearly_positive(result.parts["coldest"][shown] - hottest):
        doubts.append("blurring the map's hottest part hurts no more than blurring its coldest")
    if not is_clearly_positive(result.parts["moved"][shown] - hottest):
        doubts.append("blurring the same shape elsewhere hurts as much")
    return doubts


def is_clearly_positive(gaps: NDArray[np.float64]) -> bool:
    """Whether the mean exceeds twice its standard error."""
    if len(gaps) < 2:
        return False
    return bool(gaps.mean() > 2 * gaps.std(ddof=1) / np.sqrt(len(gaps)))


def round_figure(value: Any) -> float:
    """The value with four decimals."""
    return round(float(value), 4)
