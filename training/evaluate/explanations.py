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

from training.artifact import parity as verify
from training.data.datasets import Split
from training.evaluate import faithfulness, randomisation
from training.evaluate import mean_map as attention
from training.evaluate import pointing_game as mosaic
from training.gradcam import reference as gradcam
from training.gradcam.plan import Plan
from training.imaging.preprocessing import Run
from training.networks.classifier import Classifier

MAPS = 200  # pictures whose maps are tried, unless told otherwise
LOOKED_AT = 10  # times as many are averaged
SHUFFLED = 32  # pictures for the randomisation test
ONE_PASS = 32  # pictures
INCOMPLETE = 1e-3  # of the largest logit without its bias


@dataclass(frozen=True)
class Evidence:
    """What goes into the card, and what the plots are drawn from."""

    figures: dict[str, Any]  # `checks.faithfulness`
    attention: dict[str, Any]
    found: faithfulness.Found


def gather(
    run: Run,  # the exported graph
    model: Classifier,  # what it was checked against
    plan: Plan,
    test: Split,
    labels: Sequence[str],
    measured_on: str,
    count: int = MAPS,
    seed: int = 0,
) -> Evidence:
    """Measure everything on a seeded sample of the held-out pictures."""
    begun = time.monotonic()
    some = sample(test, count * LOOKED_AT, seed)
    logits, cams = explained(run, some)
    answers = logits.argmax(1)  # (N,)
    found = faithfulness.measure(
        lambda image: verify.run_once(run, image, 0)[1],
        some.pictures[:count],
        cams[:count],
        answers[:count],
        seed,
    )
    image = torch.tensor(np.asarray(some.pictures[:SHUFFLED]))
    target = torch.from_numpy(answers[:SHUFFLED, None])
    shuffled = randomisation.cascade(model, randomisation.at(plan.layer), image, target, seed)
    pointing, reason = point(run, some, answers, (cams.shape[1], cams.shape[2]), seed)
    gap = incompleteness(model, plan, some, logits, cams)
    told = faithfulness.doubts(found) + randomisation.doubts(shuffled)
    if gap is not None and gap > INCOMPLETE:
        told.append(f"the map's sum misses the logit by {gap:.2g}")
    figures = {
        "measured_on": measured_on
        if len(test) <= count
        else f"{count:,} pictures of {measured_on} ({len(test):,})",
        **faithfulness.figures(found),
        "completeness": gap,
        "randomisation": shuffled,
        "pointing": pointing,
        **({"pointing_reason": reason} if reason else {}),
        "doubts": told + (mosaic.doubts(pointing) if pointing else []),
        "seconds": round(time.monotonic() - begun, 1),
    }
    return Evidence(figures, attention.reference(cams, answers, labels), found)


def sample(test: Split, count: int, seed: int) -> Split:
    """At most so many pictures, in random order."""
    return test.take(np.random.default_rng(seed).permutation(len(test))[:count])


def explained(run: Run, split: Split) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N, K), and cam of each picture's top-1 (N, h, w)."""
    passes = [
        verify.run_once(run, split.pictures[start : start + ONE_PASS], 1)
        for start in range(0, len(split), ONE_PASS)
    ]
    return np.concatenate([p[0] for p in passes]), np.concatenate([p[2][:, 0] for p in passes])


def point(
    run: Run, some: Split, answers: NDArray[np.int64], cells: tuple[int, int], seed: int
) -> tuple[dict[str, Any] | None, str]:
    """The pointing game's figures, or why it wasn't played."""
    if some.labels.ndim == 2:
        return None, "where in a picture each of several labels lies is not known"
    right = some.take(np.flatnonzero(answers == some.labels))
    height, width = some.pictures.shape[1:3]
    reason = mosaic.room(height, width, cells, len(np.unique(right.labels)))
    if reason:
        return None, reason
    return mosaic.play(run, right.pictures, right.labels, seed=seed), ""


def incompleteness(
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
    if plan.seed is None or plan.pivot != plan.seed or not averages(model, plan.layer, image):
        return None
    bias = model.network.get_submodule(plan.seed).bias
    answers = logits.argmax(1)
    shift = bias.detach().numpy()[answers] if isinstance(bias, torch.Tensor) else 0.0
    expected = logits.max(1) - shift
    return float(f"{np.abs(cams.sum((1, 2)) - expected).max() / np.abs(expected).max():.2g}")


@torch.no_grad()
def averages(model: Classifier, layer: str, image: torch.Tensor) -> bool:
    """Whether all that follows the layer makes of its map is the mean."""

    def level(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output.mean((2, 3), keepdim=True).expand_as(output).clone()

    expected = model(image)
    with gradcam.hooked(gradcam.find(model.network, layer), level):
        return torch.allclose(model(image), expected, rtol=1e-4, atol=1e-4)
