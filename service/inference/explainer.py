"""Explains one image: which maps its row must ask for, and what is made of them.

This module knows the order of the steps (pixels, row, maps, picture), not how each step is done. It
knows nothing about HTTP.
"""

from typing import NamedTuple

from service.artifact.card import TOP_1
from service.imaging.geometry import ShownSize
from service.imaging.memory import Drawing
from service.imaging.saliency import is_empty
from service.inference.classifier import Classification, Classifier
from service.inference.confidence import warn
from service.inference.image_request import ExplainRequest, count_pixels
from service.inference.results import (
    MAX_LABELS_IN_ONE_RUN,
    check_label_index,
    describe_class,
    describe_target_map,
    find_label_index,
    make_any_result,
    rank,
    select_target_maps,
)
from service.inference.room import Canvas
from service.inference.target_maps import MapRenderer, TargetMap, count_blurred_bytes
from service.parameters import ExplainOptions
from service.repository.model import Model
from service.runtime.row import Answer
from service.schemas import (
    AnswerWarning,
    ExplainedClass,
    Explanation,
    Prediction,
    RegionVerification,
    Result,
    Verification,
)
from service.telemetry import metrics


class RenderedExplanation(NamedTuple):
    """An explanation as a picture."""

    content: bytes
    predicted: Prediction | ExplainedClass
    target: Prediction | ExplainedClass
    verification: Verification | RegionVerification | None
    warnings: list[AnswerWarning]


class Explainer:
    """Explains one image at a time. Its rows share batches with those of all other requests."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._renderer = MapRenderer(classifier)

    async def explain(self, request: ExplainRequest) -> Result:
        """Return predictions and explanations as numbers, with pictures if a view is named."""
        model, options = request.model, request.options
        is_repeated = len(options.target) > 1 or (options.target_top or 1) > 1
        canvas = self._make_canvas(request, options.view is not None, is_repeated)
        with canvas.room:
            classification, target_maps = await self._compute_target_maps(request, canvas)
            result = await make_any_result(classification, model, options.top_k)
            explanations = await self._describe(request, classification, target_maps, canvas)
            if options.view is not None:
                picture = classification.picture
                await self._renderer.render_each(
                    request, picture, target_maps, explanations, canvas
                )
            if options.verify:
                for target_map, explanation in zip(target_maps, explanations, strict=True):
                    explanation["verification"] = await self._verify(
                        request, classification, target_map, canvas
                    )
        result["explanations"] = explanations
        empty = sum(explanation["empty"] for explanation in explanations)
        metrics.count_maps(model.name, len(explanations), empty)
        return result

    async def draw(self, request: ExplainRequest, media_type: str) -> RenderedExplanation:
        """Return the explanation of one target as a picture."""
        model, options = request.model, request.options
        canvas = self._make_canvas(request, is_drawn=True, is_repeated=False)
        with canvas.room:
            classification, [target_map] = await self._compute_target_maps(request, canvas)
            encoded = await self._renderer.render(
                request, classification.picture, target_map, media_type, canvas
            )
            verification = None
            if options.verify:
                verification = await self._verify(request, classification, target_map, canvas)
        metrics.count_maps(model.name, 1, encoded.empty)
        predicted = int(classification.answer.logits.argmax())
        return RenderedExplanation(
            encoded.content,
            describe_class(predicted, classification.answer, model),
            describe_class(target_map.target, classification.answer, model),
            verification,
            warn(classification.answer, predicted, model),
        )

    def _make_canvas(self, request: ExplainRequest, is_drawn: bool, is_repeated: bool) -> Canvas:
        shown_size = ShownSize(request.options.size) if is_drawn else None
        kept = count_blurred_bytes(request)
        return request.permit.make_canvas(Drawing(shown_size, is_repeated, kept_bytes=kept))

    async def _describe(
        self,
        request: ExplainRequest,
        classification: Classification[Answer],
        target_maps: list[TargetMap],
        canvas: Canvas,
    ) -> list[Explanation]:
        threshold = request.options.box_threshold
        return await self._classifier.render(
            lambda: [
                describe_target_map(target_map, classification, request.model, threshold)
                for target_map in target_maps
            ],
            count_pixels(classification.picture, len(target_maps)),
            request.timings,
            canvas,
        )

    async def _verify(
        self,
        request: ExplainRequest,
        classification: Classification[Answer],
        target_map: TargetMap,
        canvas: Canvas,
    ) -> Verification:
        """Run the model with the hottest part blurred, and with the coldest part blurred."""
        probability = float(classification.answer.probabilities[target_map.target])
        if is_empty(target_map.cam):
            return {"probability": probability, "hot_blurred": None, "cold_blurred": None}
        answers = await self._renderer.run_blurred(
            request, classification.picture, target_map.cam, canvas
        )
        hot, cold = (float(answer.probabilities[target_map.target]) for answer in answers)
        return {"probability": probability, "hot_blurred": hot, "cold_blurred": cold}

    async def _compute_target_maps(
        self, request: ExplainRequest, canvas: Canvas
    ) -> tuple[Classification[Answer], list[TargetMap]]:
        """Run the model once or twice, and select the maps of the targets."""
        content, model, options, timings, permit = request
        targets, against = read_targets(options, model), read_against(options, model)
        baselines = [] if against is None else [against]
        if targets:
            map_indices = [*targets, *baselines]
        elif len(model.labels) <= MAX_LABELS_IN_ONE_RUN:
            map_indices = list(range(len(model.labels)))
        else:
            map_indices = []
        is_one_run = bool(map_indices)
        classification = await self._classifier.classify(
            content, model, map_indices, timings, permit, canvas, is_traffic=is_one_run
        )
        if not targets:
            targets = rank(classification.answer.logits)[: options.target_top].tolist()
        if not is_one_run:
            map_indices = [*targets, *baselines]
            answer = await self._classifier.run(
                classification.picture.pixels, model, map_indices, timings, canvas.room
            )
            assert isinstance(answer, Answer)
            classification = Classification(classification.picture, answer)
        return classification, select_target_maps(classification, map_indices, targets, against)


def check_labels(options: ExplainOptions, model: Model) -> None:
    """Check that the model has all labels asked for, before an image is decoded.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    read_targets(options, model)
    read_against(options, model)


def read_targets(options: ExplainOptions, model: Model) -> list[int]:
    """The class indices to explain; an empty list if the most probable must be found first.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.target_top is not None:
        return []
    if options.target_index is not None:
        return [check_label_index(options.target_index, model)]
    return [find_label_index(label, model) for label in options.target] or [TOP_1]


def read_against(options: ExplainOptions, model: Model) -> int | None:
    """The class index to compare the targets with; None if there is none.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.against_index is not None:
        return check_label_index(options.against_index, model)
    return None if options.against is None else find_label_index(options.against, model)
