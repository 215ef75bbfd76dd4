"""All that is measured of a model's explanations on held-out pictures, through the file itself.

Puts faithfulness, randomisation, mosaics and attention side by side; knows how none of them works.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.datasets import Split
from training.evaluate.faithfulness import (
    Faithfulness,
    find_faithfulness_doubts,
    measure_faithfulness,
    summarize_faithfulness,
)
from training.evaluate.mean_map import summarize_maps
from training.evaluate.pointing_game import find_obstacle, find_pointing_doubts, play_pointing_game
from training.evaluate.randomisation import (
    find_randomisation_doubts,
    make_gradcam_explainer,
    measure_randomisation,
)
from training.gradcam.plan import Plan
from training.gradcam.reference import attach_hook, find_layer
from training.graph.session import run_for_top1
from training.imaging.preprocessing import GraphRunner
from training.networks.classifier import Classifier

DEFAULT_MAPS = 200  # pictures whose maps are tried, unless told otherwise
AVERAGED_PER_MAP = 10  # times as many are averaged
RANDOMISATION_PICTURES = 32  # pictures for the randomisation test
BATCH_SIZE = 32  # pictures
MAX_INCOMPLETENESS = 1e-3  # of the largest logit without its bias


@dataclass(frozen=True)
class ExplanationMetrics:
    """What goes into the card, and what the plots are drawn from."""

    figures: dict[str, Any]  # `checks.faithfulness`
    attention: dict[str, Any]
    found: Faithfulness


def measure_explanations(
    run: GraphRunner,  # the exported graph
    model: Classifier,  # what it was checked against
    plan: Plan,
    test: Split,
    labels: Sequence[str],
    measured_on: str,
    count: int = DEFAULT_MAPS,
    seed: int = 0,
) -> ExplanationMetrics:
    """Measure everything on a seeded sample of the held-out pictures."""
    begun = time.monotonic()
    some = sample_split(test, count * AVERAGED_PER_MAP, seed)
    logits, cams = compute_top1_maps(run, some)
    answers = logits.argmax(1)  # (N,)
    found = measure_faithfulness(
        lambda image: run_for_top1(run, image, 0)[1],
        some.pictures[:count],
        cams[:count],
        answers[:count],
        seed,
    )
    image = torch.tensor(np.asarray(some.pictures[:RANDOMISATION_PICTURES]))
    target = torch.from_numpy(answers[:RANDOMISATION_PICTURES, None])
    shuffled = measure_randomisation(model, make_gradcam_explainer(plan.layer), image, target, seed)
    pointing, reason = run_pointing_game(run, some, answers, (cams.shape[1], cams.shape[2]), seed)
    gap = measure_incompleteness(model, plan, some, logits, cams)
    told = find_faithfulness_doubts(found) + find_randomisation_doubts(shuffled)
    if gap is not None and gap > MAX_INCOMPLETENESS:
        told.append(f"the map's sum misses the logit by {gap:.2g}")
    figures = {
        "measured_on": measured_on
        if len(test) <= count
        else f"{count:,} pictures of {measured_on} ({len(test):,})",
        **summarize_faithfulness(found),
        "completeness": gap,
        "randomisation": shuffled,
        "pointing": pointing,
        **({"pointing_reason": reason} if reason else {}),
        "doubts": told + (find_pointing_doubts(pointing) if pointing else []),
        "seconds": round(time.monotonic() - begun, 1),
    }
    return ExplanationMetrics(figures, summarize_maps(cams, answers, labels), found)


def sample_split(test: Split, count: int, seed: int) -> Split:
    """At most so many pictures, in random order."""
    return test.select(np.random.default_rng(seed).permutation(len(test))[:count])


def compute_top1_maps(
    run: GraphRunner, split: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N, K), and cam of each picture's top-1 (N, h, w)."""
    passes = [
        run_for_top1(run, split.pictures[start : start + BATCH_SIZE], 1)
        for start in range(0, len(split), BATCH_SIZE)
    ]
    return np.concatenate([p[0] for p in passes]), np.concatenate([p[2][:, 0] for p in passes])


def run_pointing_game(
    run: GraphRunner, some: Split, answers: NDArray[np.int64], cells: tuple[int, int], seed: int
) -> tuple[dict[str, Any] | None, str]:
    """The pointing game's figures, or why it wasn't played."""
    if some.labels.ndim == 2:
        return None, "where in a picture each of several labels lies is not known"
    right = some.select(np.flatnonzero(answers == some.labels))
    height, width = some.pictures.shape[1:3]
    reason = find_obstacle(height, width, cells, len(np.unique(right.labels)))
    if reason:
        return None, reason
    return play_pointing_game(run, right.pictures, right.labels, seed=seed), ""


def measure_incompleteness(
    model: Classifier,
    plan: Plan,
    some: Split,
    logits: NDArray[np.float32],
    cams: NDArray[np.float32],
) -> float | None:
    """The largest |sum of cam - (logit - bias)| over the largest |logit - bias|, of the top-1.

    It is 0 where the head averages the map and one linear layer follows; None elsewhere.
    """
    image = torch.tensor(np.asarray(some.pictures[:2]))
    if plan.seed is None or plan.pivot != plan.seed or not is_averaged(model, plan.layer, image):
        return None
    bias = model.network.get_submodule(plan.seed).bias
    answers = logits.argmax(1)
    shift = bias.detach().numpy()[answers] if isinstance(bias, torch.Tensor) else 0.0
    expected = logits.max(1) - shift
    return float(f"{np.abs(cams.sum((1, 2)) - expected).max() / np.abs(expected).max():.2g}")


@torch.no_grad()
def is_averaged(model: Classifier, layer: str, image: torch.Tensor) -> bool:
    """Whether all that follows the layer makes of its map is the mean."""

    def level(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output.mean((2, 3), keepdim=True).expand_as(output).clone()

    expected = model(image)
    with attach_hook(find_layer(model.network, layer), level):
        return torch.allclose(model(image), expected, rtol=1e-4, atol=1e-4)
