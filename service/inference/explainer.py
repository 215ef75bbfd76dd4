"""Explanations: which maps a row must ask for, and what becomes of them.

Knows the order of things (pixels, row, maps, picture), not how each is done, and no HTTP.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

from service.artifact.card import TOP_1
from service.imaging.geometry import Size
from service.imaging.occlusion import blur_parts
from service.imaging.saliency import is_empty
from service.inference.classifier import Classification, Classifier
from service.inference.results import (
    TargetMap,
    check_label_index,
    choose_shown_size,
    describe_class,
    describe_target_map,
    find_label_index,
    make_result,
    rank,
    render_target_map,
    select_target_maps,
)
from service.repository.repository import Model
from service.schemas import ExplainOptions, Prediction, Result, Verification
from service.telemetry import metrics
from service.telemetry.timings import Timings

# With so few labels all maps come in the one pass; with more, the most probable are found first.
ALL_MAPS_UP_TO = 16


class RenderedExplanation(NamedTuple):
    """An explanation as a picture."""

    content: bytes
    predicted: Prediction
    target: Prediction
    verification: Verification | None


class Explainer:
    """Explains one image at a time; their rows share batches with everybody's."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def explain(
        self, content: bytes, model: Model, options: ExplainOptions, timings: Timings
    ) -> Result:
        """Predictions and explanations in numbers, with pictures where a view was named."""
        fit = None if options.view is None else partial(choose_shown_size, wanted=options.size)
        classification, target_maps = await self._compute_target_maps(
            content, model, options, timings, fit
        )
        result = make_result(classification, model, options.top_k)
        result["explanations"] = await self._classifier.render(
            lambda: [
                describe_target_map(target_map, classification, model, options)
                for target_map in target_maps
            ],
            count_pixels(classification, len(target_maps)),
            timings,
        )
        if options.verify:
            for target_map, explanation in zip(target_maps, result["explanations"], strict=True):
                explanation["verification"] = await self._verify(
                    target_map, classification, model, timings
                )
        empty = sum(explanation["empty"] for explanation in result["explanations"])
        metrics.count_maps(model.name, len(result["explanations"]), empty)
        return result

    async def draw(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        media_type: str,
        timings: Timings,
    ) -> RenderedExplanation:
        """The explanation of one target as a picture."""
        fit = partial(choose_shown_size, wanted=options.size)
        classification, [target_map] = await self._compute_target_maps(
            content, model, options, timings, fit
        )
        encoded = await self._classifier.render(
            lambda: render_target_map(target_map, classification, model, options, media_type),
            count_pixels(classification),
            timings,
        )
        metrics.count_maps(model.name, 1, encoded.empty)
        predicted = int(classification.answer.logits.argmax())
        return RenderedExplanation(
            encoded.content,
            describe_class(predicted, classification.answer, model),
            describe_class(target_map.target, classification.answer, model),
            await self._verify(target_map, classification, model, timings)
            if options.verify
            else None,
        )

    async def _verify(
        self, target_map: TargetMap, classification: Classification, model: Model, timings: Timings
    ) -> Verification:
        """Two more rows: what the model says without the map's hottest, and its coldest, part."""
        probability = float(classification.answer.probabilities[target_map.target])
        if is_empty(target_map.cam):
            return {"probability": probability, "hot_blurred": None, "cold_blurred": None}
        blurred = await self._classifier.render(
            lambda: blur_parts(classification.picture.pixels, target_map.cam),
            count_pixels(classification),
            timings,
        )
        answers = await asyncio.gather(
            *(
                self._classifier.run(pixels, model, (), timings, is_traffic=False)
                for pixels in blurred
            )
        )
        hot, cold = (float(answer.probabilities[target_map.target]) for answer in answers)
        return {"probability": probability, "hot_blurred": hot, "cold_blurred": cold}

    async def _compute_target_maps(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        timings: Timings,
        fit: Callable[[Size], Size] | None,
    ) -> tuple[Classification, list[TargetMap]]:
        targets, against = read_targets(options, model), read_against(options, model)
        besides = [] if against is None else [against]
        if targets:
            asked = [*targets, *besides]
        elif len(model.labels) <= ALL_MAPS_UP_TO:
            asked = list(range(len(model.labels)))
        else:
            asked = []
        once = bool(asked)
        classification = await self._classifier.classify(
            content, model, asked, timings, fit, is_traffic=once
        )
        if not targets:
            targets = rank(classification.answer.logits)[: options.target_top].tolist()
        if not once:
            asked = [*targets, *besides]
            answer = await self._classifier.run(
                classification.picture.pixels, model, asked, timings
            )
            classification = Classification(classification.picture, answer)
        return classification, select_target_maps(classification, asked, targets, against)


def count_pixels(classification: Classification, maps: int = 1) -> int:
    """Pixels to draw: of each map as large as the model's input, and of the picture below it."""
    shown = classification.picture.shown
    pixels: int = prod(classification.picture.pixels.shape[:2]) + (prod(shown.size) if shown else 0)
    return maps * pixels


def check_labels(options: ExplainOptions, model: Model) -> None:
    """See that the model has all that is asked for, before any image is looked at.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    read_targets(options, model)
    read_against(options, model)


def read_targets(options: ExplainOptions, model: Model) -> list[int]:
    """The class indices to explain; none where the most probable are still to be found.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.target_top is not None:
        return []
    if options.target_index is not None:
        return [check_label_index(options.target_index, model)]
    return [find_label_index(label, model) for label in options.target] or [TOP_1]


def read_against(options: ExplainOptions, model: Model) -> int | None:
    """The class index to hold the targets against.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.against_index is not None:
        return check_label_index(options.against_index, model)
    return None if options.against is None else find_label_index(options.against, model)
