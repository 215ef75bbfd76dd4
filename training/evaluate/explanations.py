"""All measurements of a model's explanations on held-out pictures, through the exported graph.

Combines faithfulness, randomisation, the pointing game and mean maps. Knows nothing of how they
work.
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

DEFAULT_MAPS = 200  # pictures whose maps are measured by default
AVERAGED_PER_MAP = 10  # pictures in the mean map, per measured map
RANDOMISATION_PICTURES = 32  # pictures of the randomisation test
BATCH_SIZE = 32  # pictures
MAX_INCOMPLETENESS = 1e-3  # as a share of the largest logit without its bias


@dataclass(frozen=True)
class ExplanationMetrics:
    """The figures for the card, and the data for the plots."""

    figures: dict[str, Any]  # `checks.faithfulness`
    attention: dict[str, Any]
    found: Faithfulness


@dataclass(frozen=True)
class ExportedModel:
    """An exported graph, with the network that it was checked against and the plan of its maps."""

    run: GraphRunner
    model: Classifier
    plan: Plan


def measure_explanations(
    exported: ExportedModel,
    test: Split,
    labels: Sequence[str],
    measured_on: str,
    count: int = DEFAULT_MAPS,
    seed: int = 0,
) -> ExplanationMetrics:
    """Measure everything on a random sample of the held-out pictures."""
    started = time.monotonic()
    run, model, plan = exported.run, exported.model, exported.plan
    sampled = sample_split(test, count * AVERAGED_PER_MAP, seed)
    logits, cams = compute_top1_maps(run, sampled)
    answers = logits.argmax(1)  # (N,)
    found = measure_faithfulness(
        lambda image: run_for_top1(run, image, 0)[1],
        sampled.pictures[:count],
        cams[:count],
        answers[:count],
        seed,
    )
    shuffled = run_randomisation(exported, sampled, answers, seed)
    cells = cams.shape[1], cams.shape[2]
    pointing, reason = run_pointing_game(run, sampled, answers, cells, seed)
    gap = measure_incompleteness(model, plan, sampled, logits, cams)
    some = f"{count:,} pictures of {measured_on} ({len(test):,})"
    figures = {
        "measured_on": measured_on if len(test) <= count else some,
        **summarize_faithfulness(found),
        "completeness": gap,
        "randomisation": shuffled,
        "pointing": pointing,
        **({"pointing_reason": reason} if reason else {}),
        "doubts": find_doubts(found, shuffled, gap, pointing),
        "seconds": round(time.monotonic() - started, 1),
    }
    return ExplanationMetrics(figures, summarize_maps(cams, answers, labels), found)


def find_doubts(
    found: Faithfulness,
    shuffled: dict[str, Any],
    gap: float | None,
    pointing: dict[str, Any] | None,
) -> list[str]:
    """The doubts of all measurements; those that were not made raise none."""
    doubts = find_faithfulness_doubts(found) + find_randomisation_doubts(shuffled)
    if gap is not None and gap > MAX_INCOMPLETENESS:
        doubts.append(f"the map's sum misses the logit by {gap:.2g}")
    return doubts + (find_pointing_doubts(pointing) if pointing else [])


def sample_split(test: Split, count: int, seed: int) -> Split:
    """At most `count` pictures, in random order."""
    return test.select(np.random.default_rng(seed).permutation(len(test))[:count])


def compute_top1_maps(
    run: GraphRunner, split: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logits (N, K), and each picture's cam of its top-1 (N, h, w)."""
    passes = [
        run_for_top1(run, split.pictures[start : start + BATCH_SIZE], 1)
        for start in range(0, len(split), BATCH_SIZE)
    ]
    return np.concatenate([p[0] for p in passes]), np.concatenate([p[2][:, 0] for p in passes])


def run_randomisation(
    exported: ExportedModel, sampled: Split, answers: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """The randomisation test on a few of the pictures."""
    image = torch.tensor(np.asarray(sampled.pictures[:RANDOMISATION_PICTURES]))
    target = torch.from_numpy(answers[:RANDOMISATION_PICTURES, None])
    explain = make_gradcam_explainer(exported.plan.layer, exported.plan.method)
    return measure_randomisation(exported.model, explain, image, target, seed)


def run_pointing_game(
    run: GraphRunner, sampled: Split, answers: NDArray[np.int64], cells: tuple[int, int], seed: int
) -> tuple[dict[str, Any] | None, str]:
    """The pointing game's figures, or None and the reason why it cannot be played."""
    if sampled.labels.ndim == 2:
        return None, "where in a picture each of several labels lies is not known"
    right = sampled.select(np.flatnonzero(answers == sampled.labels))
    height, width = sampled.pictures.shape[1:3]
    reason = find_obstacle(height, width, cells, len(np.unique(right.labels)))
    if reason:
        return None, reason
    return play_pointing_game(run, right.pictures, right.labels, seed=seed), ""


def measure_incompleteness(
    model: Classifier,
    plan: Plan,
    sampled: Split,
    logits: NDArray[np.float32],
    cams: NDArray[np.float32],
) -> float | None:
    """The largest |sum of cam - (logit - bias)| of the top-1, over the largest |logit - bias|.

    It should be 0 if one linear layer follows, for Grad-CAM after an average of the map. None for
    other heads, and if every logit is its bias.
    """
    image = torch.tensor(np.asarray(sampled.pictures[:2]))
    if plan.seed is None or plan.pivot != plan.seed:
        return None
    if plan.method == "gradcam" and not is_averaged(model, plan.layer, image):
        return None
    bias = model.network.get_submodule(plan.seed).bias
    answers = logits.argmax(1)
    shift = bias.detach().numpy()[answers] if isinstance(bias, torch.Tensor) else 0.0
    expected = logits.max(1) - shift
    largest = np.abs(expected).max()
    return float(f"{np.abs(cams.sum((1, 2)) - expected).max() / largest:.2g}") if largest else None


@torch.no_grad()
def is_averaged(model: Classifier, layer: str, image: torch.Tensor) -> bool:
    """Whether the rest of the network uses only the mean of the layer's map."""

    def average_map(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output.mean((2, 3), keepdim=True).expand_as(output).clone()

    expected = model(image)
    with attach_hook(find_layer(model.network, layer), average_map):
        return torch.allclose(model(image), expected, rtol=1e-4, atol=1e-4)
