"""Chooses the target layer whose maps are the most faithful.

Candidates are the last layer at each map size, and the architecture's default. The criterion is the
mean score of `evaluate/faithfulness.py` (insertion minus deletion). Of the layers within one
standard error of the best, the cheapest is chosen, and the latest if several cost the same. The
maps are computed in eager torch, with which the exported graph is compared later.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.datasets import Split
from training.errors import UserError
from training.evaluate.explanations import sample_split
from training.evaluate.faithfulness import measure_faithfulness
from training.gradcam.map_layout import view_map
from training.gradcam.reference import compute_gradcam, find_layer
from training.gradcam.target_layers import TargetLayer, list_target_layers
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier, compute_probabilities

SCORED_PICTURES = 50
BATCH_SIZE = 16  # pictures
MIN_MAP_SIDE = 2  # cells


@dataclass(frozen=True)
class LayerScore:
    """A layer with the mean score of its maps, its standard error, and the share of empty maps."""

    row: TargetLayer
    score: float
    error: float
    empty: float


def choose_layer(
    model: Classifier,
    own: str | None,  # the architecture's default layer, or None
    test: Split | None,
    multilabel: bool,
    say: Callable[[str], None],
    count: int = SCORED_PICTURES,
) -> str:
    """The name of the most faithful layer; the table of candidates is passed to `say`.

    Raises:
        UserError: there are no labelled pictures, or only one.
    """
    if test is None:
        raise UserError(
            "--layer auto needs labelled pictures. Give a folder of them with --pictures."
        )
    if len(test) < 2:
        raise UserError(
            "--layer auto compares layers on two pictures at least, there is 1. Name the layer."
        )
    sampled = sample_split(test, count, 0)
    image = torch.tensor(np.asarray(sampled.pictures))
    rows = select_candidates(list_target_layers(model, model.network, image[:4]), own)
    found = [
        score_layer(model, row, image, multilabel) for row in tqdm(rows, "layers", leave=False)
    ]
    best = max(found, key=lambda c: c.score)
    equivalent = [c for c in found if c.score >= best.score - best.error]
    chosen = min(reversed(equivalent), key=lambda c: c.row.cost)
    say(f"{'layer':32} {'map':>9} {'cost':>6} {'empty':>7} {'insertion - deletion':>21}")
    for c in found:
        size = f"{c.row.height} x {c.row.width}"
        mark = " (taken)" if c is chosen else ""
        say(
            f"{c.row.name:32} {size:>9} {c.row.cost:6.2f} {c.empty:7.1%} "
            f"{c.score:13.3f} ± {c.error:.3f}{mark}"
        )
    return chosen.row.name


def select_candidates(rows: list[TargetLayer], own: str | None) -> list[TargetLayer]:
    """The last layer of each map size and the default layer, in execution order."""
    last = {(row.height, row.width): row.name for row in rows}
    names = {*last.values(), own}
    return [row for row in rows if row.name in names and min(row.height, row.width) >= MIN_MAP_SIDE]


def score_layer(
    model: Classifier, row: TargetLayer, image: torch.Tensor, multilabel: bool
) -> LayerScore:
    """Score the maps of a layer for the top-1 of these pictures (N, H, W, C)."""

    def predict(pictures: Pixels) -> NDArray[np.float32]:
        logits = torch.from_numpy(model.predict(pictures))
        return compute_probabilities(logits, multilabel).numpy()

    with view_map(model.network, row.name, row.layout) as name:
        layer = find_layer(model.network, name)
        passes = [
            compute_gradcam(model, part, torch.full((len(part), 1), -1), layer)
            for part in torch.split(image, BATCH_SIZE)
        ]
    cams = torch.cat([p.cam[:, 0] for p in passes]).numpy()
    answers = torch.cat([p.logits for p in passes]).argmax(1).numpy()
    found = measure_faithfulness(predict, image.numpy(), cams, answers)
    scores = found.scores
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    return LayerScore(row, float(scores.mean()), float(error), float(found.empty.mean()))
