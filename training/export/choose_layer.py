"""Chooses the target layer, the method or both, whose maps are the most faithful.

Candidate layers are the last layer at each map size, and the architecture's default, or the one
that is named. Each is tried with each method that draws another map there. The criterion is the
mean score of `evaluate/faithfulness.py` (insertion minus deletion). Of the pairs within one
standard error of the best, the cheapest is chosen. Of several with that cost it is the latest layer
and its better method. The maps are computed in eager torch, with which the exported graph is
compared later.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.datasets import Split
from training.errors import UserError
from training.evaluate.explanations import sample_split
from training.evaluate.faithfulness import measure_faithfulness
from training.export.request import ExportRequest
from training.gradcam.map_layout import view_map
from training.gradcam.reference import METHODS, Method, compute_gradcam, find_layer
from training.gradcam.target_layers import TargetLayer, list_target_layers
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier, compute_probabilities, find_known_layer

AUTO = "auto"
SCORED_PICTURES = 50
BATCH_SIZE = 16  # pictures
MIN_MAP_SIDE = 2  # cells


@dataclass(frozen=True)
class MapScore:
    """A layer and method with the mean score, its standard error and the share of empty maps."""

    row: TargetLayer
    score: float
    error: float
    empty: float


def choose_layer_and_method(
    request: ExportRequest, count: int = SCORED_PICTURES
) -> tuple[str, Method]:
    """The layer and the method of the request, with "auto" replaced by the most faithful.

    The table of candidates is passed to the request's `say`.

    Raises:
        UserError: a choice is asked for, and there are no labelled pictures or only one.
    """
    if AUTO not in (request.layer, request.method):
        return request.layer, cast(Method, request.method)
    sampled = sample_split(require_pictures(request), count, 0)
    image = torch.tensor(np.asarray(sampled.pictures))
    rows = list_candidates(request, image[:4])
    found = [
        score_map(request.model, row, image, request.multilabel)
        for row in tqdm(rows, "maps", leave=False)
    ]
    best = max(found, key=lambda c: c.score)
    equivalent = [c for c in found if c.score >= best.score - best.error]
    order = list(dict.fromkeys(row.name for row in rows))
    chosen = min(equivalent, key=lambda c: (c.row.cost, -order.index(c.row.name), -c.score))
    request.say(
        f"{'layer':32} {'method':8} {'map':>9} {'cost':>6} {'empty':>7} "
        f"{'insertion - deletion':>21}"
    )
    for c in found:
        size = f"{c.row.height} x {c.row.width}"
        mark = " (taken)" if c is chosen else ""
        request.say(
            f"{c.row.name:32} {c.row.method:8} {size:>9} {c.row.cost:6.2f} {c.empty:7.1%} "
            f"{c.score:13.3f} ± {c.error:.3f}{mark}"
        )
    return chosen.row.name, chosen.row.method


def require_pictures(request: ExportRequest) -> Split:
    """The test pictures of a request that asks for a choice; raises UserError if there are none."""
    given = {"--layer": request.layer, "--method": request.method}
    options = [f"{name} {AUTO}" for name, value in given.items() if value == AUTO]
    asked, plural = " and ".join(options), "s" * (len(options) == 1)
    if request.test is None:
        raise UserError(
            f"{asked} need{plural} labelled pictures. Give a folder of them with --pictures."
        )
    if len(request.test) < 2:
        raise UserError(
            f"{asked} compare{plural} maps on two pictures at least, there is 1. "
            "Name the layer and the method."
        )
    return request.test


def list_candidates(request: ExportRequest, image: torch.Tensor) -> list[TargetLayer]:
    """The layers and methods to compare, in execution order, measured on pictures (N, H, W, C)."""
    model = request.model
    methods = METHODS if request.method == AUTO else (cast(Method, request.method),)
    only = None if request.layer == AUTO else request.layer
    rows = list_target_layers(model, model.network, image, methods=methods, only=only)
    if only:
        return rows
    return select_candidates(rows, find_known_layer(model.network))


def select_candidates(rows: list[TargetLayer], own: str | None) -> list[TargetLayer]:
    """The last layer of each map size and the default layer, in execution order."""
    last = {(row.height, row.width): row.name for row in rows}
    names = {*last.values(), own}
    return [row for row in rows if row.name in names and min(row.height, row.width) >= MIN_MAP_SIDE]


def score_map(
    model: Classifier, row: TargetLayer, image: torch.Tensor, multilabel: bool
) -> MapScore:
    """Score the maps of a layer and method for the top-1 of these pictures (N, H, W, C)."""

    def predict(pictures: Pixels) -> NDArray[np.float32]:
        logits = torch.from_numpy(model.predict(pictures))
        return compute_probabilities(logits, multilabel).numpy()

    with view_map(model.network, row.name, row.layout) as name:
        layer = find_layer(model.network, name)
        passes = [
            compute_gradcam(model, part, torch.full((len(part), 1), -1), layer, row.method)
            for part in torch.split(image, BATCH_SIZE)
        ]
    cams = torch.cat([p.cam[:, 0] for p in passes]).numpy()
    answers = torch.cat([p.logits for p in passes]).argmax(1).numpy()
    found = measure_faithfulness(predict, image.numpy(), cams, answers)
    scores = found.scores
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    return MapScore(row, float(scores.mean()), float(error), float(found.empty.mean()))
