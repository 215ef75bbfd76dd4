"""Makes what a client reads, predictions and explanations, from the outputs of one row."""

from collections.abc import Sequence
from difflib import get_close_matches
from heapq import nlargest
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1
from service.errors import UnknownLabel, excerpt
from service.imaging.decoding import Picture
from service.imaging.saliency import Map, find_box, is_empty, normalize_cam
from service.inference.classifier import Classification
from service.inference.confidence import warn
from service.inference.target_maps import TargetMap
from service.repository.model import Model
from service.runtime.row import Answer
from service.schemas import Explanation, Prediction, Result

MAX_COMPARED = 100  # characters of an unknown label
MAX_PAIRS = 8  # of its letters
MAX_CANDIDATES = 16


def find_label_index(label: str, model: Model) -> int:
    """The index of a label.

    Raises:
        UnknownLabel: there is no such label; the message suggests similar ones.
    """
    if label in model.indices:
        return model.indices[label]
    similar = find_similar(label, model.labels) or model.labels[:3]
    raise UnknownLabel(
        f"The model '{model.name}' has no label '{excerpt(label)}'; did you mean one of: "
        f"{', '.join(similar)}?"
    )


def find_similar(label: str, labels: Sequence[str]) -> list[str]:
    """Up to three similar labels. Only the few that share most pairs of letters are compared.

    To compare a label with all of a thousand would stop the event loop for a tenth of a second.
    """
    lower = label[:MAX_COMPARED].lower()
    pairs = list(dict.fromkeys(map("".join, pairwise(lower))))
    pairs = pairs[:: len(pairs) // MAX_PAIRS + 1]
    nearest = nlargest(
        MAX_CANDIDATES, labels, key=lambda other: sum(map(other.lower().__contains__, pairs))
    )
    short = {other[:MAX_COMPARED]: other for other in nearest}
    matches = get_close_matches(label[:MAX_COMPARED], short, n=3, cutoff=0.5)
    return [short[match] for match in matches]


def check_label_index(index: int, model: Model) -> int:
    """The index itself, if the model has a label with it.

    Raises:
        UnknownLabel: the model has fewer labels.
    """
    if 0 <= index < len(model.labels):
        return index
    raise UnknownLabel(
        f"The model '{model.name}' has no label with index {excerpt(str(index))}. Its indices "
        f"are 0 to {len(model.labels) - 1}."
    )


def rank(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Class indices by falling logit, the lower index first on ties; `logits` (K,)."""
    return np.argsort(-logits, kind="stable")


def describe_class(index: int, answer: Answer, model: Model) -> Prediction:
    """A class with its probability."""
    return {
        "label": model.labels[index],
        "index": index,
        "probability": float(answer.probabilities[index]),
    }


def make_result(classification: Classification[Answer], model: Model, top_k: int) -> Result:
    """The `top_k` most probable classes (all if it is 0) and the size of the picture."""
    answer = classification.answer
    order = rank(answer.logits)[: top_k or None].tolist()
    width, height = classification.picture.size
    return {
        "predictions": [describe_class(index, answer, model) for index in order],
        "image": {"width": width, "height": height},
        "warnings": warn(answer, order[0], model),
    }


def select_target_maps(
    classification: Classification[Answer],
    map_indices: Sequence[int],
    targets: Sequence[int],
    against: int | None,
) -> list[TargetMap]:
    """Select the maps of `targets`; the row's maps are those of the classes `map_indices`.

    Grad-CAM is linear in the logit, so the map of "a rather than b" is exactly cam(a) - cam(b).
    """
    top_1 = int(classification.answer.logits.argmax())

    def resolve(target: int) -> int:
        return top_1 if target == TOP_1 else target

    cams = {
        resolve(index): cam
        for index, cam in zip(map_indices, classification.answer.cam, strict=True)
    }
    baseline = 0 if against is None else cams[against]
    resolved = [resolve(target) for target in targets]
    return [TargetMap(target, against, cams[target] - baseline) for target in resolved]


def describe_target_map(
    target_map: TargetMap,
    classification: Classification[Answer],
    model: Model,
    box_threshold: float,
) -> Explanation:
    """One map as JSON, without a picture."""
    answer, against = classification.answer, target_map.against
    cam, gradcam = target_map.cam, model.artifact.card.gradcam
    return {
        "target": describe_class(target_map.target, answer, model),
        "against": None if against is None else describe_class(against, answer, model),
        "layer": gradcam.layer,
        "method": gradcam.method,
        "shape": (cam.shape[0], cam.shape[1]),
        "cam": cam.tolist(),
        "empty": is_empty(cam),
        "box": find_heat_box(cam, classification.picture, box_threshold),
    }


def find_heat_box(cam: Map, picture: Picture, threshold: float) -> tuple[int, int, int, int] | None:
    """The hottest region of a map (h, w) in pixels of the picture, half-open; None without heat."""
    height, width = picture.pixels.shape[:2]
    crop = picture.crop
    box = find_box(normalize_cam(cam, height, width), threshold)
    if box is None:
        return None
    on_picture = box.scale(crop.width / width, crop.height / height).shift(crop.left, crop.top)
    return on_picture.round(picture.size)
