"""Makes what a client reads, predictions and explanations, from the outputs of one row."""

from collections.abc import Sequence
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1
from service.errors import UnknownLabel, excerpt
from service.imaging.decoding import Picture
from service.imaging.saliency import Map, find_box, is_empty, normalize_cam
from service.inference.classifier import Classification
from service.inference.confidence import warn
from service.inference.target_maps import TargetMap
from service.long_answers import run_in_writer
from service.parameters import ExplainOptions, PredictOptions
from service.repository.model import Model
from service.runtime.row import Answer
from service.schemas import Explanation, Prediction, Result

# With up to this many labels the first run computes all maps. With more, the first run finds the
# most probable labels and a second run computes their maps.
MAX_LABELS_IN_ONE_RUN = 16
# What an answer takes while it is put together: the objects of Python, and their text twice.
CLASS_BYTES = 400  # of a class with its numbers, besides its label
LABEL_COPIES = 2
NUMBER_BYTES = 64  # of one value of a map
FLOAT_BYTES = 4
INLINE_CLASSES = 2000  # made on the event loop; more take longer than a millisecond
INLINE_NUMBERS = 20_000  # listed at once


def find_label_index(label: str, model: Model) -> int:
    """The index of a label.

    Raises:
        UnknownLabel: there is no such label; the message suggests similar ones.
    """
    indices = model.label_index.indices
    if label in indices:
        return indices[label]
    similar = model.label_index.find_similar(label) or model.labels[:3]
    raise UnknownLabel(
        f"The model '{model.name}' has no label '{excerpt(label)}'; did you mean one of: "
        f"{', '.join(similar)}?"
    )


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


def count_result_bytes(options: PredictOptions, model: Model) -> int:
    """The bytes that the result of one image takes at most while it is put together.

    The pictures in it are counted when they are drawn.
    """
    classes = min(options.top_k or len(model.labels), len(model.labels))
    total = CLASS_BYTES * classes + LABEL_COPIES * model.label_index.count_bytes(classes)
    if isinstance(options, ExplainOptions):
        maps = options.target_top or len(options.target) or 1
        computed = 2 * maps  # each with the class that it is compared with
        if len(model.labels) <= MAX_LABELS_IN_ONE_RUN:
            computed = max(computed, len(model.labels))
        total += prod(model.artifact.map_shape) * (NUMBER_BYTES * maps + FLOAT_BYTES * computed)
    return total


async def make_any_result(
    classification: Classification[Answer], model: Model, top_k: int
) -> Result:
    """Return the same. If it has many classes, a thread makes it."""
    if min(top_k or len(model.labels), len(model.labels)) <= INLINE_CLASSES:
        return make_result(classification, model, top_k)
    return await run_in_writer(partial(make_result, classification, model, top_k))


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
        "cam": list_rows(cam),
        "empty": is_empty(cam),
        "box": find_heat_box(cam, classification.picture, box_threshold),
    }


def list_rows(cam: Map) -> list[list[float]]:
    """The values of a map (h, w). At once, those of a large one would hold all other threads."""
    rows: list[list[float]]
    rows = cam.tolist() if cam.size <= INLINE_NUMBERS else [row.tolist() for row in cam]
    return rows


def find_heat_box(cam: Map, picture: Picture, threshold: float) -> tuple[int, int, int, int] | None:
    """The hottest region of a map (h, w) in pixels of the picture, half-open; None without heat."""
    height, width = picture.pixels.shape[:2]
    crop = picture.crop
    box = find_box(normalize_cam(cam, height, width), threshold)
    if box is None:
        return None
    on_picture = box.scale(crop.width / width, crop.height / height).shift(crop.left, crop.top)
    return on_picture.round(picture.size)
