"""Makes what a client reads of a mask: its classes, and the explanation of a region."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import ANYTHING
from service.imaging.decoding import Picture
from service.imaging.mask import ClassArea, find_largest, find_placement, measure_areas
from service.imaging.saliency import is_empty
from service.inference.classifier import Classification
from service.inference.results import find_heat_box, list_rows
from service.inference.segmentation.regions import Region
from service.inference.target_maps import TargetMap
from service.repository.model import Model
from service.runtime.row import MaskAnswer
from service.schemas import (
    ClassShare,
    ExplainedClass,
    RegionExplanation,
    SegmentationResult,
)


class RegionMap(NamedTuple):
    """The map of one target in a region."""

    map: TargetMap
    region: Region
    pixels: NDArray[np.bool_]  # (H, W), those of the region
    probability: float | None  # of the target, the mean over the pixels; None if there are none
    against_probability: float | None


def make_result(
    classification: Classification[MaskAnswer], model: Model, top_k: int
) -> SegmentationResult:
    """The `top_k` largest classes (all if it is 0), as they lie on the picture."""
    picture, answer = classification.picture, classification.answer
    height, width = answer.mask.shape
    placement = find_placement(picture.crop, picture.size, picture.size, (width, height))
    areas = measure_areas(answer.mask, answer.probabilities, placement)
    seen = sum(area.pixels for area in areas)
    return {
        "classes": [describe_area(area, seen, model) for area in areas[: top_k or None]],
        "image": {"width": picture.size[0], "height": picture.size[1]},
        "warnings": [],
    }


def describe_area(area: ClassArea, seen: int, model: Model) -> ClassShare:
    """A class with its share of the `seen` pixels."""
    return {
        "label": model.labels[area.label],
        "index": area.label,
        "share": area.pixels / seen,
        "pixels": area.pixels,
        "box": area.box,
        "probability": area.probability,
    }


def measure_probability(answer: MaskAnswer, index: int, pixels: NDArray[np.bool_]) -> float | None:
    """The mean probability of a class over the pixels (H, W); None if there are none."""
    if not pixels.any():
        return None
    return float(answer.probabilities[index][pixels].mean(dtype=np.float64))


def make_region_maps(
    answer: MaskAnswer, region: Region, maps: Sequence[TargetMap]
) -> list[RegionMap]:
    """The maps with the pixels and the probabilities of their region."""
    made = []
    for target_map in maps:
        pixels = region.select(answer.mask, target_map.target)
        probability = measure_probability(answer, target_map.target, pixels)
        against = None
        if target_map.against is not None:
            against = measure_probability(answer, target_map.against, pixels)
        made.append(RegionMap(target_map, region, pixels, probability, against))
    return made


def describe_region_map(
    region_map: RegionMap, picture: Picture, model: Model, box_threshold: float
) -> RegionExplanation:
    """One map as JSON, without a picture."""
    target, against, cam = region_map.map
    region = region_map.region
    of, gradcam = region.find_of(target), model.artifact.card.gradcam
    explained_against: ExplainedClass | None = None
    if against is not None:
        explained_against = describe_target(against, region_map.against_probability, model)
    return {
        "target": describe_target(target, region_map.probability, model),
        "against": explained_against,
        "region": {
            "of": None if of == ANYTHING else model.labels[of],
            "box": region.find_on_picture(picture),
            "pixels": int(region_map.pixels.sum()),
        },
        "layer": gradcam.layer,
        "method": gradcam.method,
        "shape": (cam.shape[0], cam.shape[1]),
        "cam": list_rows(cam),
        "empty": is_empty(cam),
        "box": find_heat_box(cam, picture, box_threshold),
    }


def describe_largest(answer: MaskAnswer, model: Model) -> ExplainedClass:
    """The class with the most pixels, the background only if there is no other."""
    index = find_largest(answer.mask, len(model.labels), model.artifact.card.background)
    return describe_target(index, measure_probability(answer, index, answer.mask == index), model)


def describe_target(index: int, probability: float | None, model: Model) -> ExplainedClass:
    """A class with its probability in the region."""
    return {"label": model.labels[index], "index": index, "probability": probability}
