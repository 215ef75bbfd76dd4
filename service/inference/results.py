"""What a client reads: predictions and explanations made of one row's outputs."""

import base64
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1
from service.errors import UnknownLabel
from service.imaging.geometry import Size, fit
from service.imaging.heatmap import View, encode_picture, render_view
from service.imaging.saliency import Map, find_box, is_empty, normalize_cam
from service.inference.classifier import Classification
from service.repository.repository import Model
from service.runtime.batcher import Answer
from service.schemas import ExplainOptions, Explanation, Prediction, Result

DEFAULT_SIZES = (224, 1024)  # of a drawn picture's longer side


def find_label_index(label: str, model: Model) -> int:
    """A label's index among the K.

    Raises:
        UnknownLabel: there is no such label; the sentence suggests near ones.
    """
    if label in model.indices:
        return model.indices[label]
    near = get_close_matches(label, model.labels, n=3, cutoff=0.5) or model.labels[:3]
    raise UnknownLabel(
        f"The model '{model.name}' has no label '{label}'; did you mean one of: {', '.join(near)}?"
    )


def check_label_index(index: int, model: Model) -> int:
    """The index itself, if the model has it.

    Raises:
        UnknownLabel: it has fewer labels.
    """
    if 0 <= index < len(model.labels):
        return index
    raise UnknownLabel(
        f"The model '{model.name}' has no label with index {index}: they go from 0 to "
        f"{len(model.labels) - 1}."
    )


def rank(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Class indices, the most probable first, the first on ties; `logits` (K,)."""
    return np.argsort(-logits, kind="stable")


def describe_class(index: int, answer: Answer, model: Model) -> Prediction:
    """A class with its probability."""
    return {
        "label": model.labels[index],
        "index": index,
        "probability": float(answer.probabilities[index]),
    }


def make_result(classification: Classification, model: Model, top_k: int) -> Result:
    """The `top_k` most probable classes (0 is all), and the picture's size."""
    order = rank(classification.answer.logits)[: top_k or None].tolist()
    width, height = classification.picture.size
    return {
        "predictions": [describe_class(index, classification.answer, model) for index in order],
        "image": {"width": width, "height": height},
    }


class TargetMap(NamedTuple):
    """One target of an answered row, with its own map."""

    target: int
    against: int | None
    cam: Map  # (h, w), signed


def select_target_maps(
    classification: Classification,
    asked: Sequence[int],
    targets: Sequence[int],
    against: int | None,
) -> list[TargetMap]:
    """The maps for `targets`, out of those that the row `asked` for.

    Grad-CAM is linear in the logit, so "a and not b" is exactly cam(a) - cam(b).
    """
    top_1 = int(classification.answer.logits.argmax())

    def resolve(target: int) -> int:
        return top_1 if target == TOP_1 else target

    cams = {
        resolve(target): cam for target, cam in zip(asked, classification.answer.cam, strict=True)
    }
    baseline = 0 if against is None else cams[against]
    return [TargetMap(resolve(t), against, cams[resolve(t)] - baseline) for t in targets]


def describe_target_map(
    target_map: TargetMap, classification: Classification, model: Model, options: ExplainOptions
) -> Explanation:
    """What JSON says of one map."""
    height, width = classification.picture.pixels.shape[:2]
    crop, size = classification.picture.crop, classification.picture.size
    box = find_box(normalize_cam(target_map.cam, height, width))
    against = target_map.against
    explanation: Explanation = {
        "target": describe_class(target_map.target, classification.answer, model),
        "against": None
        if against is None
        else describe_class(against, classification.answer, model),
        "layer": model.artifact.card.gradcam.layer,
        "shape": (target_map.cam.shape[0], target_map.cam.shape[1]),
        "cam": target_map.cam.tolist(),
        "empty": is_empty(target_map.cam),
        "box": None,
    }
    if box:
        placed = box.scale(crop.width / width, crop.height / height).shift(crop.left, crop.top)
        explanation["box"] = placed.round(size)
    if options.view is not None:
        encoded = render_target_map(target_map, classification, model, options, "image/png")
        explanation["picture"] = base64.b64encode(encoded.content).decode()
    return explanation


class EncodedMap(NamedTuple):
    """An encoded picture, and whether there was any heat to draw."""

    content: bytes
    empty: bool


def render_target_map(
    target_map: TargetMap,
    classification: Classification,
    model: Model,
    options: ExplainOptions,
    media_type: str,
) -> EncodedMap:
    """The drawn picture, encoded."""
    view = options.view or View.OVERLAY
    image = render_view(
        classification.picture, target_map.cam, view, options.colormap, options.alpha
    )
    origin = {
        "model": model.name,
        "version": model.version,
        "sha256": model.artifact.sha256,
        "target": model.labels[target_map.target],
        "layer": model.artifact.card.gradcam.layer,
    }
    if target_map.against is not None:
        origin["against"] = model.labels[target_map.against]
    return EncodedMap(encode_picture(image, media_type, origin), is_empty(target_map.cam))


def choose_shown_size(size: Size, wanted: int | None) -> Size:
    """The drawn picture's size for an uploaded one of `size`: see the parameter `size`."""
    if wanted == 0:
        return size
    low, high = DEFAULT_SIZES
    longer = max(size)
    return fit(size, wanted if wanted is not None else min(max(longer, low), high))
