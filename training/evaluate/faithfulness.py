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

from training.gradcam import heatmap as heats
from training.imaging.preprocessing import Pixels, Predict, image_of

STEPS = 10  # of a curve, from none of the pixels to all
AREA = 0.2  # of the picture, blurred at once
BLUR = 1 / 8  # the Gaussian's sigma, of the longer side
CURVES = ("deletion", "insertion", "random", "centre_deletion", "centre_insertion")
PARTS = ("hottest", "coldest", "against", "moved")


@dataclass(frozen=True)
class Found:
    """The probability of the class explained, for each picture."""

    empty: NDArray[np.bool_]  # (N,): whose map shows nothing
    curves: dict[str, NDArray[np.float64]]  # CURVES, each (N, STEPS + 1)
    parts: dict[str, NDArray[np.float64]]  # "none" blurred and PARTS, each (N,)

    def areas(self, name: str) -> NDArray[np.float64]:
        """Under each picture's curve: (N,) in 0..1."""
        return np.asarray(np.trapezoid(self.curves[name], dx=1 / STEPS))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Insertion less deletion: (N,)."""
        return self.areas("insertion") - self.areas("deletion")

    @property
    def centre_scores(self) -> NDArray[np.float64]:
        """The same for a blob in the middle of each picture."""
        return self.areas("centre_insertion") - self.areas("centre_deletion")


def measure(
    predict: Predict,
    pictures: Pixels,  # (N, H, W, C)
    cams: NDArray[np.float32],  # (N, h, w), signed
    classes: NDArray[np.int64],  # (N,): what each map explains
    seed: int = 0,
) -> Found:
    """Every curve and part of every picture; 49 predictions each."""
    rng = np.random.default_rng(seed)
    rows = [
        along(predict, picture, cam, int(k), rng)
        for picture, cam, k in zip(pictures, cams, classes, strict=True)
    ]
    return Found(
        np.array([heats.is_empty(cam) for cam in cams]),
        {name: np.stack([curves[name] for curves, _ in rows]) for name in CURVES},
        {name: np.array([parts[name] for _, parts in rows]) for name in ("none", *PARTS)},
    )


def along(
    predict: Predict, picture: Pixels, cam: heats.Map, explained: int, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """One picture (H, W, C) along its curves, and with each part blurred: all in one batch."""
    soft = blurred(picture)
    heat = heats.shown(cam, picture.shape[:2])  # (H, W)
    orders = ranked(heat, rng), rng.permutation(heat.size), ranked(-distance(heat.shape), rng)
    away, back = (picture, soft), (soft, picture)
    ways = [(away, orders[0]), (back, orders[0]), (away, orders[1])]
    ways += [(away, orders[2]), (back, orders[2])]
    shares = np.arange(1, STEPS) / STEPS
    variants = [picture, soft]
    for (base, other), order in ways:
        variants += [swapped(base, other, order[: round(s * heat.size)]) for s in shares]
    variants += [
        np.where(part[..., None], soft, picture) for part in parts_of(cam, heat, rng).values()
    ]
    p = predict(np.stack(variants))[:, explained].astype(np.float64)
    inner = p[2 : 2 + len(CURVES) * len(shares)].reshape(len(CURVES), -1)
    ends = {"away": (p[0], p[1]), "back": (p[1], p[0])}
    curves = {}
    for name, middle in zip(CURVES, inner, strict=True):
        first, last = ends["back" if "insertion" in name else "away"]
        curves[name] = np.array([first, *middle, last])
    return curves, {"none": p[0], **dict(zip(PARTS, p[-len(PARTS) :], strict=True))}


def parts_of(cam: heats.Map, heat: heats.Map, rng: np.random.Generator) -> dict[str, heats.Map]:
    """Masks (H, W) of at most a fifth: hottest, least |cam|, most negative, hottest moved by half.

    All of one size but the third, which has no more than is negative.
    """
    hot = (heat >= np.quantile(heat, 1 - AREA)) & (heat > 0)
    signed = heats.signed(cam, (heat.shape[0], heat.shape[1]))
    moved = np.roll(hot, (heat.shape[0] // 2, heat.shape[1] // 2), (0, 1))
    cold, against = np.zeros(hot.shape, bool), np.zeros(hot.shape, bool)
    cold.flat[ranked(-np.abs(signed), rng)[: hot.sum()]] = True
    against.flat[ranked(-signed, rng)[: hot.sum()]] = True
    return dict(zip(PARTS, (hot, cold, against & (signed < 0), moved), strict=True))


def ranked(heat: heats.Map, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the pixels, hottest first; those of equal heat in random order."""
    return np.lexsort((rng.random(heat.size), -heat.ravel()))


def distance(size: tuple[int, ...]) -> heats.Map:
    """From the middle, in halves of the sides: (H, W)."""
    y, x = (np.abs((np.arange(side) + 0.5) / side * 2 - 1) for side in size)
    return np.hypot(y[:, None], x)


def swapped(base: Pixels, other: Pixels, pixels: NDArray[np.int64]) -> Pixels:
    """`base` with these pixels of `other`: (H, W, C)."""
    made = base.reshape(-1, base.shape[2]).copy()
    made[pixels] = other.reshape(-1, base.shape[2])[pixels]
    return made.reshape(base.shape)


def blurred(picture: Pixels) -> Pixels:
    """The whole picture (H, W, C) without its details."""
    sigma = BLUR * max(picture.shape[:2])
    soft = image_of(picture).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(soft).reshape(picture.shape)


def figures(found: Found) -> dict[str, Any]:
    """Means over the pictures; parts over those whose map isn't empty."""
    some = ~found.empty
    gap = found.parts["coldest"] - found.parts["hottest"]
    return {
        "pictures": len(found.empty),
        "empty": short(found.empty.mean()),
        "deletion": short(found.areas("deletion").mean()),
        "insertion": short(found.areas("insertion").mean()),
        "score": short(found.scores.mean()),
        "random": short(found.areas("random").mean()),
        "centre_score": short(found.centre_scores.mean()),
        "blurred": {
            **{name: short(p[some].mean()) for name, p in found.parts.items()},
            "hottest_hurts_more": short((gap[some] > 0).mean()),
        }
        if some.any()
        else None,
    }


def doubts(found: Found) -> list[str]:
    """What these pictures don't show; each gap must be twice its standard error."""
    some = ~found.empty
    hottest = found.parts["hottest"][some]
    told = []
    if found.empty.mean() > 0.1:
        told.append(f"{found.empty.mean():.0%} of the maps are empty")
    if not clear(found.scores):
        told.append("the map orders pixels no better than chance")
    if not clear(found.scores - found.centre_scores):
        told.append("a blob in the middle of the picture does as well as the map")
    if not clear(found.parts["coldest"][some] - hottest):
        told.append("blurring the map's hottest part hurts no more than blurring its coldest")
    if not clear(found.parts["moved"][some] - hottest):
        told.append("blurring the same shape elsewhere hurts as much")
    return told


def clear(gaps: NDArray[np.float64]) -> bool:
    """Whether the mean is above 0 by twice its standard error."""
    if len(gaps) < 2:
        return False
    return bool(gaps.mean() > 2 * gaps.std(ddof=1) / np.sqrt(len(gaps)))


def short(value: Any) -> float:
    return round(float(value), 4)
