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
from service.inference.classifier import Classifier, Seen
from service.inference.results import (
    Reason,
    check_index,
    describe_class,
    draw_reason,
    find_index,
    find_reasons,
    fit_shown,
    make_explanation,
    make_result,
    rank,
)
from service.repository.repository import Model
from service.schemas import ExplainOptions, Prediction, Result, Verification
from service.telemetry import metrics
from service.telemetry.timings import Timings

# With so few labels all maps come in the one pass; with more, the most probable are found first.
ALL_MAPS_UP_TO = 16


class Drawing(NamedTuple):
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
        fit = None if options.view is None else partial(fit_shown, wanted=options.size)
        seen, reasons = await self._find_reasons(content, model, options, timings, fit)
        result = make_result(seen, model, options.top_k)
        result["explanations"] = await self._classifier.render(
            lambda: [make_explanation(reason, seen, model, options) for reason in reasons],
            count_pixels(seen, len(reasons)),
            timings,
        )
        if options.verify:
            for reason, explanation in zip(reasons, result["explanations"], strict=True):
                explanation["verification"] = await self._verify(reason, seen, model, timings)
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
    ) -> Drawing:
        """The explanation of one target as a picture."""
        fit = partial(fit_shown, wanted=options.size)
        seen, [reason] = await self._find_reasons(content, model, options, timings, fit)
        drawn = await self._classifier.render(
            lambda: draw_reason(reason, seen, model, options, media_type),
            count_pixels(seen),
            timings,
        )
        metrics.count_maps(model.name, 1, drawn.empty)
        predicted = int(seen.answer.logits.argmax())
        return Drawing(
            drawn.content,
            describe_class(predicted, seen.answer, model),
            describe_class(reason.target, seen.answer, model),
            await self._verify(reason, seen, model, timings) if options.verify else None,
        )

    async def _verify(
        self, reason: Reason, seen: Seen, model: Model, timings: Timings
    ) -> Verification:
        """Two more rows: what the model says without the map's hottest, and its coldest, part."""
        probability = float(seen.answer.probabilities[reason.target])
        if is_empty(reason.cam):
            return {"probability": probability, "hot_blurred": None, "cold_blurred": None}
        blurred = await self._classifier.render(
            lambda: blur_parts(seen.picture.pixels, reason.cam), count_pixels(seen), timings
        )
        answers = await asyncio.gather(
            *(self._classifier.run(pixels, model, (), timings, counts=False) for pixels in blurred)
        )
        hot, cold = (float(answer.probabilities[reason.target]) for answer in answers)
        return {"probability": probability, "hot_blurred": hot, "cold_blurred": cold}

    async def _find_reasons(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        timings: Timings,
        fit: Callable[[Size], Size] | None,
    ) -> tuple[Seen, list[Reason]]:
        targets, against = read_targets(options, model), read_against(options, model)
        besides = [] if against is None else [against]
        if targets:
            asked = [*targets, *besides]
        elif len(model.labels) <= ALL_MAPS_UP_TO:
            asked = list(range(len(model.labels)))
        else:
            asked = []
        once = bool(asked)
        seen = await self._classifier.classify(content, model, asked, timings, fit, counts=once)
        if not targets:
            targets = rank(seen.answer.logits)[: options.target_top].tolist()
        if not once:
            asked = [*targets, *besides]
            answer = await self._classifier.run(seen.picture.pixels, model, asked, timings)
            seen = Seen(seen.picture, answer)
        return seen, find_reasons(seen, asked, targets, against)


def count_pixels(seen: Seen, maps: int = 1) -> int:
    """Pixels to draw: of each map as large as the model's input, and of the picture below it."""
    shown = seen.picture.shown
    pixels: int = prod(seen.picture.pixels.shape[:2]) + (prod(shown.size) if shown else 0)
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
        return [check_index(options.target_index, model)]
    return [find_index(label, model) for label in options.target] or [TOP_1]


def read_against(options: ExplainOptions, model: Model) -> int | None:
    """The class index to hold the targets against.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.against_index is not None:
        return check_index(options.against_index, model)
    return None if options.against is None else find_index(options.against, model)
