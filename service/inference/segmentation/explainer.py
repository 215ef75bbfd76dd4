"""Explains a region of one image: which maps its row must ask for, and what is made of them.

This module knows the order of the steps, not how each step is done. It knows nothing about HTTP.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from service.artifact.card import TOP_1, RegionTarget
from service.imaging.decoding import Picture
from service.imaging.geometry import ShownSize
from service.imaging.memory import Drawing
from service.imaging.saliency import Map, is_empty
from service.inference.classifier import Classification, Classifier
from service.inference.explainer import RenderedExplanation, read_against
from service.inference.image_request import ExplainRequest, count_pixels
from service.inference.results import find_label_index
from service.inference.room import Canvas
from service.inference.segmentation.regions import Region, read_region, read_targets
from service.inference.segmentation.results import (
    RegionMap,
    describe_largest,
    describe_region_map,
    describe_target,
    make_region_maps,
    measure_probability,
)
from service.inference.segmentation.segmenter import (
    UPLOADED_SIZE,
    Segmenter,
    check_mask,
    count_answer_bytes,
)
from service.inference.target_maps import MapRenderer, TargetMap, count_blurred_bytes
from service.parameters import ExplainOptions
from service.repository.model import Model
from service.runtime.row import MaskAnswer
from service.schemas import RegionVerification, SegmentationResult
from service.telemetry import metrics

ROWS = 2  # of the first run and of the second
VERIFYING_ROWS = 3  # the picture as it is, and with two parts blurred
Segmentation = Classification[MaskAnswer]


class RegionExplainer:
    """Explains one image at a time. Its rows share batches with those of all other requests."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._segmenter = Segmenter(classifier)
        self._renderer = MapRenderer(classifier)

    async def explain(self, request: ExplainRequest) -> SegmentationResult:
        """Return classes and explanations as numbers, with pictures if a view is named."""
        model, options = request.model, request.options
        canvas = self._make_canvas(request, is_drawn=options.view is not None)
        with canvas.room:
            segmentation, region_maps = await self._compute_region_maps(request, canvas)
            picture = segmentation.picture
            result = await self._segmenter.describe(request, segmentation, canvas)
            maps = [region_map.map for region_map in region_maps]
            explanations = await self._classifier.render(
                lambda: [
                    describe_region_map(region_map, picture, model, options.box_threshold)
                    for region_map in region_maps
                ],
                count_pixels(picture, len(maps)),
                request.timings,
                canvas,
            )
            if options.view is not None:
                await self._renderer.render_each(request, picture, maps, explanations, canvas)
            if options.verify:
                for region_map, explanation in zip(region_maps, explanations, strict=True):
                    explanation["verification"] = await self._verify(
                        request, picture, region_map, canvas
                    )
        result["explanations"] = explanations
        empty = sum(explanation["empty"] for explanation in explanations)
        metrics.count_maps(model.name, len(explanations), empty)
        return result

    async def draw(self, request: ExplainRequest, media_type: str) -> RenderedExplanation:
        """Return the explanation of one target as a picture."""
        model, options = request.model, request.options
        canvas = self._make_canvas(request, is_drawn=True)
        with canvas.room:
            segmentation, [region_map] = await self._compute_region_maps(request, canvas)
            picture, answer = segmentation
            encoded = await self._renderer.render(
                request, picture, region_map.map, media_type, canvas
            )
            verification = None
            if options.verify:
                verification = await self._verify(request, picture, region_map, canvas)
        metrics.count_maps(model.name, 1, encoded.empty)
        return RenderedExplanation(
            encoded.content,
            describe_largest(answer, model),
            describe_target(region_map.map.target, region_map.probability, model),
            verification,
            [],
        )

    def _make_canvas(self, request: ExplainRequest, is_drawn: bool) -> Canvas:
        model, options = request.model, request.options
        is_repeated = len(options.target) > 1 or (options.target_top or 1) > 1
        shown_size = ShownSize(options.size) if is_drawn else None
        mask_size = UPLOADED_SIZE if options.mask else None
        kept = count_answer_bytes(model, VERIFYING_ROWS if options.verify else ROWS)
        kept += count_blurred_bytes(request)
        return request.permit.make_canvas(Drawing(shown_size, is_repeated, mask_size, kept))

    async def _compute_region_maps(
        self, request: ExplainRequest, canvas: Canvas
    ) -> tuple[Segmentation, list[RegionMap]]:
        """Run the model once or twice, and select the maps of the targets.

        It runs twice if the second run must ask for classes that only the mask tells.
        """
        content, model, options, timings, permit = request
        targets, against = read_targets(options, model), read_against(options, model)
        is_one_run = bool(targets) and (against is None or TOP_1 not in targets)
        regions: list[Region] = []

        def choose(picture: Picture) -> Sequence[RegionTarget]:
            regions.append(read_region(options, picture, model))
            return list_asked(regions[0], targets, against) if is_one_run else ()

        segmentation = await self._classifier.classify(
            content, model, choose, timings, permit, canvas
        )
        (picture, answer), [region] = segmentation, regions
        check_mask(answer.mask, model)
        resolved, pixels = targets, count_pixels(picture)
        if TOP_1 in targets or not targets:
            rank = partial(region.rank, answer.mask, model)
            ranked = await self._classifier.render(rank, pixels, timings, canvas)
            resolved = ranked[: options.target_top or 1]
        if not is_one_run:
            targets = resolved
            asked = list_asked(region, targets, against)
            second = await self._classifier.run(picture.pixels, model, asked, timings, canvas.room)
            assert isinstance(second, MaskAnswer)
            answer = second
        cams = dict(zip(list_asked(region, targets, against), answer.cam, strict=True))
        maps = select_maps(region, cams, zip(targets, resolved, strict=True), against)
        make = partial(make_region_maps, answer, region, maps)
        region_maps = await self._classifier.render(make, pixels, timings, canvas)
        return Classification(picture, answer), region_maps

    async def _verify(
        self, request: ExplainRequest, picture: Picture, region_map: RegionMap, canvas: Canvas
    ) -> RegionVerification:
        """Measure the same pixels with the hottest part blurred, and with the coldest part."""
        probability, cam = region_map.probability, region_map.map.cam
        if probability is None or is_empty(cam):
            return {"probability": probability, "hot_blurred": None, "cold_blurred": None}
        answers = await self._renderer.run_blurred(request, picture, cam, canvas)
        hot, cold = (
            measure_probability(answer, region_map.map.target, region_map.pixels)
            for answer in answers
            if isinstance(answer, MaskAnswer)
        )
        return {"probability": probability, "hot_blurred": hot, "cold_blurred": cold}


def list_asked(region: Region, targets: Sequence[int], against: int | None) -> list[RegionTarget]:
    """What the graph is asked, each once: the targets, and the class to compare each with.

    Grad-CAM is linear in the logits, so the map of "a rather than b" is cam(a) - cam(b), if both
    are for the same pixels.
    """
    asked = [region.make_target(target) for target in targets]
    if against is not None:
        asked += [region.make_target(against, region.find_of(target)) for target in targets]
    return [*dict.fromkeys(asked)]


def select_maps(
    region: Region,
    cams: Mapping[RegionTarget, Map],
    targets: Iterable[tuple[int, int]],
    against: int | None,
) -> list[TargetMap]:
    """The map of each target: pairs of what was asked, and the class that it turned out to be."""
    maps = []
    for asked, target in targets:
        cam = cams[region.make_target(asked)]
        if against is not None:
            cam = cam - cams[region.make_target(against, region.find_of(target))]
        maps.append(TargetMap(target, against, cam))
    return maps


def check_region_labels(options: ExplainOptions, model: Model) -> None:
    """Check that the model has all labels asked for, before an image is decoded.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    read_targets(options, model)
    read_against(options, model)
    if options.of is not None:
        find_label_index(options.of, model)
