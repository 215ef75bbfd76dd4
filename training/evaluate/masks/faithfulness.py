"""Do the maps of masks show what the network used? Measured on held-out pictures.

Each map explains the pixels M that were predicted as the largest class. Pixels of the picture are
blurred in the map's order, and what counts is the mean probability of the class over M, with M held
fixed: as for classifiers otherwise.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.mask_folder import MaskSplit
from training.evaluate.explanations import AVERAGED_PER_MAP, ExplanationMetrics
from training.evaluate.faithfulness import (
    CURVES,
    PARTS,
    Faithfulness,
    find_faithfulness_doubts,
    measure_picture,
    summarize_faithfulness,
)
from training.evaluate.mean_map import MAX_CLASSES, summarize_maps
from training.evaluate.randomisation import find_randomisation_doubts, measure_randomisation
from training.gradcam.heatmap import is_empty_map
from training.gradcam.masks.compiler import MaskPlan
from training.gradcam.masks.pixels import ANY_CLASS, TARGET_CLASS
from training.gradcam.masks.reference import MaskQuestion, explain_mask
from training.gradcam.reference import find_layer
from training.graph.session import MaskRunner
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

MIN_EFFECT = 0.05  # mean probability that blurring the hottest fifth takes away
BATCH = 17  # variants of a picture, 51 in all
RANDOMISATION_PICTURES = 8


def run_without_maps(run: MaskRunner, pictures: Pixels) -> list[NDArray[Any]]:
    """Mask and probabilities of pictures, with no targets."""
    n = len(pictures)
    return run(pictures, np.zeros((n, 0), np.int64), np.zeros((n, 0, 5), np.int64))


def find_largest(
    mask: Pixels, classes: int, background: int | None
) -> tuple[int, NDArray[np.bool_]]:
    """The class with most pixels, the background only if there is no other, and its pixels."""
    counts = np.bincount(mask.ravel(), minlength=classes).astype(float)
    if background is not None:
        counts[background] = min(counts[background], 0.5)
    largest = int(counts.argmax())
    return largest, mask == largest


def measure_map_faithfulness(
    run: MaskRunner,
    pictures: Pixels,  # (N, H, W, C)
    cams: NDArray[np.float32],  # (N, h, w)
    chosen: list[tuple[int, NDArray[np.bool_]]],  # the class and the pixels M of each
    seed: int = 0,
) -> Faithfulness:
    """Measure all curves and parts of every picture, with 51 predictions per picture."""
    rng = np.random.default_rng(seed)
    rows = []
    for picture, cam, (index, pixels) in zip(
        tqdm(pictures, "maps", leave=False), cams, chosen, strict=True
    ):

        def predict(variants: Pixels, pixels: NDArray[np.bool_] = pixels) -> NDArray[np.float32]:
            """The mean probabilities over M: (V, K)."""
            parts = [
                run_without_maps(run, variants[i : i + BATCH])[1][:, :, pixels].mean(2)
                for i in range(0, len(variants), BATCH)
            ]
            return np.concatenate(parts)

        rows.append(measure_picture(predict, picture, cam, index, rng))
    return Faithfulness(
        np.array([is_empty_map(cam) for cam in cams]),
        {name: np.stack([curves[name] for curves, _ in rows]) for name in CURVES},
        {name: np.array([parts[name] for _, parts in rows]) for name in ("none", *PARTS)},
    )


def measure_mask_maps(
    run: MaskRunner,
    model: Classifier,
    plan: MaskPlan,
    test: MaskSplit,
    labels: Sequence[str],
    measured_on: str,
    count: int,
    seed: int = 0,
) -> ExplanationMetrics:
    """The card's `checks.faithfulness` and `attention`, on a random sample of the test pictures."""
    started = time.monotonic()
    order = np.random.default_rng(seed).permutation(len(test))
    pictures = np.asarray(test.pictures[np.sort(order[:count])])
    masks = [run_without_maps(run, picture[None])[0][0] for picture in pictures]
    chosen = [find_largest(mask, len(labels), plan.background) for mask in masks]
    cams = np.concatenate(
        [
            explain_classes(run, picture, [index])
            for picture, (index, _) in zip(pictures, chosen, strict=True)
        ]
    )
    found = measure_map_faithfulness(run, pictures, cams, chosen, seed)
    shuffled = run_mask_randomisation(model, plan, pictures, [index for index, _ in chosen], seed)
    some = f"{count:,} pictures of {measured_on} ({len(test):,})"
    figures = {
        "measured_on": measured_on if len(test) <= count else some,
        **summarize_faithfulness(found),
        "completeness": None,
        "randomisation": shuffled,
        "pointing": None,
        "pointing_reason": "it is for pictures of one class each",
        "doubts": [
            *find_faithfulness_doubts(found),
            *find_effect_doubts(found),
            *find_randomisation_doubts(shuffled),
        ],
        "seconds": round(time.monotonic() - started, 1),
    }
    averaged = np.asarray(test.pictures[np.sort(order[: count * AVERAGED_PER_MAP])])
    attention = average_maps_of_classes(run, averaged, labels, plan.background)
    return ExplanationMetrics(figures, attention, found)


def average_maps_of_classes(
    run: MaskRunner, pictures: Pixels, labels: Sequence[str], background: int | None
) -> dict[str, Any]:
    """The card's `attention`: over the largest class of each picture, and over each of its classes.

    Each map is that of a class over its own pixels.
    """
    classes, cams = [], []
    for picture in pictures:
        mask = run_without_maps(run, picture[None])[0][0]
        largest, _ = find_largest(mask, len(labels), background)
        classes.append(list_classes(mask, largest, len(labels)))
        cams.append(explain_classes(run, picture, classes[-1]))
    whole = summarize_maps(
        np.stack([own[0] for own in cams]), np.array([own[0] for own in classes]), labels
    )
    every = summarize_maps(np.concatenate(cams), np.concatenate(classes), labels)
    return whole | {"classes": every["classes"]}


def explain_classes(run: MaskRunner, picture: Pixels, classes: list[int]) -> NDArray[np.float32]:
    """The map of each class over its own pixels, (T, h, w)."""
    regions = make_whole_regions(len(classes), picture.shape).swapaxes(0, 1)  # (1, T, 5)
    cams: NDArray[np.float32] = run(picture[None], np.array([classes]), regions)[2][0]
    return cams


def list_classes(mask: Pixels, largest: int, count: int) -> list[int]:
    """The classes of a mask whose maps are averaged, the largest first."""
    if count > MAX_CLASSES:  # the card has no means of each class
        return [largest]
    return [largest, *(index for index in np.unique(mask).tolist() if index != largest)]


def find_effect_doubts(found: Faithfulness) -> list[str]:
    """Whether blurring the hottest fifth changes the answer at all.

    A random network answers nearly the same everywhere: the order of its tiny changes is no proof.
    """
    effect = float((found.parts["none"] - found.parts["hottest"]).mean())
    if effect >= MIN_EFFECT:
        return []
    return [f"blurring the map's hottest part takes only {effect:.3f} of the probability"]


def make_whole_regions(count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Regions of all pixels that were predicted as the target: (N, 1, 5)."""
    height, width = shape[:2]
    return np.tile(np.array([TARGET_CLASS, 0, 0, width, height]), (count, 1, 1))


def run_mask_randomisation(
    model: Classifier, plan: MaskPlan, pictures: Pixels, classes: list[int], seed: int
) -> dict[str, Any]:
    """The randomisation test on a few pictures; M is each network's own."""
    count = min(RANDOMISATION_PICTURES, len(pictures))
    image = torch.from_numpy(pictures[:count])
    target = torch.tensor(classes[:count])[:, None]
    height, width = pictures.shape[1:3]
    # All pixels: a shuffled network may predict none as the class.
    region = torch.tensor([[[ANY_CLASS, 0, 0, width, height]]]).expand(count, 1, 5)

    def explain(
        network: torch.nn.Module, image: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        layer = find_layer(network.get_submodule("network"), plan.layer)
        question = MaskQuestion(image, target, region)
        found = explain_mask(network, question, layer, plan.method, plan.background)
        return found.cam[:, 0]

    return measure_randomisation(model, explain, image, target, seed)
