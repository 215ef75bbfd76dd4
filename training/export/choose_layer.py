"""Which layer's maps are the most faithful: the candidates are measured, one is taken.

A candidate is the last layer at each size of map, and the architecture's own. The criterion is the
mean of insertion less deletion (`training/faithfulness.py`); of those within one standard error of
the best, the one that costs least is taken, then the latest. Maps are eager torch's, which the
exported graph is held against afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.datasets import Split
from training.errors import UserError
from training.evaluate import explanations as evidence
from training.evaluate import faithfulness
from training.evaluate import temperature as calibrate
from training.gradcam import reference as gradcam
from training.gradcam import target_layers as surveys
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

PICTURES = 50
ONE_PASS = 16  # pictures
SMALLEST = 2  # cells of a map across


@dataclass(frozen=True)
class Candidate:
    """A layer, with the mean score of its maps and that mean's standard error."""

    row: surveys.Row
    score: float
    error: float
    empty: float


def choose(
    model: Classifier,
    own: str | None,  # the architecture's default layer, if it has one
    test: Split | None,
    multilabel: bool,
    say: Callable[[str], None],
    count: int = PICTURES,
) -> str:
    """The most faithful layer's name; the table goes to `say`."""
    if test is None:
        raise UserError("--layer auto tries layers on labelled pictures: --pictures names them.")
    some = evidence.sample(test, count, 0)
    image = torch.tensor(np.asarray(some.pictures))
    rows = candidates(surveys.survey(model, model.network, image[:4]), own)
    found = [measured(model, row, image, multilabel) for row in tqdm(rows, "layers", leave=False)]
    best = max(found, key=lambda c: c.score)
    near = [c for c in found if c.score >= best.score - best.error]
    taken = min(reversed(near), key=lambda c: c.row.cost)
    say(f"{'layer':32} {'map':>9} {'cost':>6} {'empty':>7} {'insertion - deletion':>21}")
    for c in found:
        size = f"{c.row.height} x {c.row.width}"
        mark = " (taken)" if c is taken else ""
        say(
            f"{c.row.name:32} {size:>9} {c.row.cost:6.2f} {c.empty:7.1%} "
            f"{c.score:13.3f} ± {c.error:.3f}{mark}"
        )
    return taken.row.name


def candidates(rows: list[surveys.Row], own: str | None) -> list[surveys.Row]:
    """The last layer of each map size, in the order they run, and the architecture's own."""
    last = {(row.height, row.width): row.name for row in rows}
    names = {*last.values(), own}
    return [row for row in rows if row.name in names and min(row.height, row.width) >= SMALLEST]


def measured(
    model: Classifier, row: surveys.Row, image: torch.Tensor, multilabel: bool
) -> Candidate:
    """One layer's maps of the top-1 on these pictures (N, H, W, C)."""

    def predict(pictures: Pixels) -> NDArray[np.float32]:
        logits = torch.from_numpy(model.predict(pictures))
        return calibrate.probabilities(logits, multilabel).numpy()

    layer = gradcam.find(model.network, row.name)
    passes = [
        gradcam.explain(model, part, torch.full((len(part), 1), -1), layer)
        for part in torch.split(image, ONE_PASS)
    ]
    cams = torch.cat([p.cam[:, 0] for p in passes]).numpy()
    answers = torch.cat([p.logits for p in passes]).argmax(1).numpy()
    found = faithfulness.measure(predict, image.numpy(), cams, answers)
    scores = found.scores
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    return Candidate(row, float(scores.mean()), float(error), float(found.empty.mean()))
