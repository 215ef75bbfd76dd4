"""Does a map tell the truth? Pictures without what it shows as hot, and with that alone.

Deletion and insertion curves (Petsiuk et al. 2018, "RISE"): pixels in the map's order, hottest
first, are taken from the picture, or given back to its blur, while the probability of the class
explained is watched. Unlike the paper, both go between the picture and the same Gaussian blur of
it (sigma = an eighth of the side): a blank is a picture that no network has seen. In a random
order both areas are the same in expectation, so insertion less deletion is 0 for a map that says
nothing and at most 1. An empty map orders the pixels at random.

Pure arrays and a function that predicts: knows nothing of networks or how a map was made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

from training.gradcam.heatmap import FloatArray, is_empty_map, render_heatmap, render_signed_heatmap
from training.imaging.preprocessing import Pixels, Predictor, to_pil_image

CURVE_STEPS = 10  # of a curve, from none of the pixels to all
BLURRED_AREA = 0.2  # of the picture, blurred at once
BLUR_SIGMA = 1 / 8  # the Gaussian's sigma, of the longer side
CURVES = ("deletion", "insertion", "random", "centre_deletion", "centre_insertion")
PARTS = ("hottest", "coldest", "against", "moved")


@dataclass(frozen=True)
class Faithfulness:
    """The probability of the class explained, for each picture."""

    empty: NDArray[np.bool_]  # (N,): whose map shows nothing
    curves: dict[str, NDArray[np.float64]]  # CURVES, each (N, STEPS + 1)
    parts: dict[str, NDArray[np.float64]]  # "none" blurred and PARTS, each (N,)

    def compute_areas(self, name: str) -> NDArray[np.float64]:
        """Under each picture's curve: (N,) in 0..1."""
        return np.asarray(np.trapezoid(self.curves[name], dx=1 / CURVE_STEPS))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Insertion less deletion: (N,)."""
        return self.compute_areas("insertion") - self.compute_areas("deletion")

    @property
    def centre_scores(self) -> NDArray[np.float64]:
        """The same for a blob in the middle of each picture."""
        return self.compute_areas("centre_insertion") - self.compute_areas("centre_deletion")


def measure_faithfulness(
    predict: Predictor,
    pictures: Pixels,  # (N, H, W, C)
    cams: NDArray[np.float32],  # (N, h, w), signed
    classes: NDArray[np.int64],  # (N,): what each map explains
    seed: int = 0,
) -> Faithfulness:
    """Every curve and part of every picture; 49 predictions each."""
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
    predict: Predictor, picture: Pixels, cam: FloatArray, explained: int, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """One picture (H, W, C) along its curves, and with each part blurred: all in one batch."""
    soft = blur_picture(picture)
    heat = render_heatmap(cam, picture.shape[:2])  # (H, W)
    orders = (
        rank_pixels(heat, rng),
        rng.permutation(heat.size),
        rank_pixels(-measure_center_distance(heat.shape), rng),
    )
    away, back = (picture, soft), (soft, picture)
    ways = [(away, orders[0]), (back, orders[0]), (away, orders[1])]
    ways += [(away, orders[2]), (back, orders[2])]
    shares = np.arange(1, CURVE_STEPS) / CURVE_STEPS
    variants = [picture, soft]
    for (base, other), order in ways:
        variants += [replace_pixels(base, other, order[: round(s * heat.size)]) for s in shares]
    variants += [
        np.where(part[..., None], soft, picture)
        for part in make_part_masks(cam, heat, rng).values()
    ]
    p = predict(np.stack(variants))[:, explained].astype(np.float64)
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
    """Masks (H, W) of at most a fifth: hottest, least |cam|, most negative, hottest moved by half.

    All of one size but the third, which has no more than is negative.
    """
    hot = (heat >= np.quantile(heat, 1 - BLURRED_AREA)) & (heat > 0)
    signed = render_signed_heatmap(cam, (heat.shape[0], heat.shape[1]))
    moved = np.roll(hot, (heat.shape[0] // 2, heat.shape[1] // 2), (0, 1))
    cold, against = np.zeros(hot.shape, bool), np.zeros(hot.shape, bool)
    cold.flat[rank_pixels(-np.abs(signed), rng)[: hot.sum()]] = True
    against.flat[rank_pixels(-signed, rng)[: hot.sum()]] = True
    return dict(zip(PARTS, (hot, cold, against & (signed < 0), moved), strict=True))


def rank_pixels(heat: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the pixels, hottest first; those of equal heat in random order."""
    return np.lexsort((rng.random(heat.size), -heat.ravel()))


def measure_center_distance(size: tuple[int, ...]) -> FloatArray:
    """From the middle, in halves of the sides: (H, W)."""
    y, x = (np.abs((np.arange(side) + 0.5) / side * 2 - 1) for side in size)
    return np.hypot(y[:, None], x)


def replace_pixels(base: Pixels, other: Pixels, pixels: NDArray[np.int64]) -> Pixels:
    """`base` with these pixels of `other`: (H, W, C)."""
    made = base.reshape(-1, base.shape[2]).copy()
    made[pixels] = other.reshape(-1, base.shape[2])[pixels]
    return made.reshape(base.shape)


def blur_picture(picture: Pixels) -> Pixels:
    """The whole picture (H, W, C) without its details."""
    sigma = BLUR_SIGMA * max(picture.shape[:2])
    soft = to_pil_image(picture).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(soft).reshape(picture.shape)


def summarize_faithfulness(found: Faithfulness) -> dict[str, Any]:
    """Means over the pictures; parts over those whose map isn't empty."""
    some = ~found.empty
    gap = found.parts["coldest"] - found.parts["hottest"]
    return {
        "pictures": len(found.empty),
        "empty": round_figure(found.empty.mean()),
        "deletion": round_figure(found.compute_areas("deletion").mean()),
        "insertion": round_figure(found.compute_areas("insertion").mean()),
        "score": round_figure(found.scores.mean()),
        "random": round_figure(found.compute_areas("random").mean()),
        "centre_score": round_figure(found.centre_scores.mean()),
        "blurred": {
            **{name: round_figure(p[some].mean()) for name, p in found.parts.items()},
            "hottest_hurts_more": round_figure((gap[some] > 0).mean()),
        }
        if some.any()
        else None,
    }


def find_faithfulness_doubts(found: Faithfulness) -> list[str]:
    """What these pictures don't show; each gap must be twice its standard error."""
    some = ~found.empty
    hottest = found.parts["hottest"][some]
    told = []
    if found.empty.mean() > 0.1:
        told.append(f"{found.empty.mean():.0%} of the maps are empty")
    if not is_clearly_positive(found.scores):
        told.append("the map orders pixels no better than chance")
    if not is_clearly_positive(found.scores - found.centre_scores):
        told.append("a blob in the middle of the picture does as well as the map")
    if not is_clearly_positive(found.parts["coldest"][some] - hottest):
        told.append("blurring the map's hottest part hurts no more than blurring its coldest")
    if not is_clearly_positive(found.parts["moved"][some] - hottest):
        told.append("blurring the same shape elsewhere hurts as much")
    return told


def is_clearly_positive(gaps: NDArray[np.float64]) -> bool:
    """Whether the mean is above 0 by twice its standard error."""
    if len(gaps) < 2:
        return False
    return bool(gaps.mean() > 2 * gaps.std(ddof=1) / np.sqrt(len(gaps)))


def round_figure(value: Any) -> float:
    return round(float(value), 4)
