"""Segments one image: the classes of its pixels as numbers, as a mask or over the picture."""

from functools import partial
from math import prod

from service.errors import InternalError
from service.imaging.decoding import Picture
from service.imaging.geometry import ShownSize
from service.imaging.heatmap import encode_picture
from service.imaging.mask import (
    Mask,
    MaskView,
    draw_mask,
    encode_mask,
    find_placement,
    make_opacity,
    place_mask,
)
from service.imaging.memory import Drawing
from service.inference.classifier import Classification, Classifier
from service.inference.image_request import ImageRequest, check_time, count_pixels
from service.inference.room import Canvas
from service.inference.segmentation.results import make_result
from service.inference.target_maps import TEXT_COPIES, describe_origin, encode_base64
from service.parameters import PredictOptions, SegmentOptions
from service.repository.model import Model
from service.runtime.row import MaskAnswer
from service.schemas import SegmentationResult

UPLOADED_SIZE = ShownSize(0)
WORKING_BYTES = 40  # per pixel of the model's input, while areas are measured
FLOAT_BYTES = 4


class Segmenter:
    """Segments one image at a time. Its rows share batches with those of all other requests."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def predict(self, request: ImageRequest[PredictOptions]) -> SegmentationResult:
        """Return the classes of the mask, with the mask itself if it is asked for."""
        model, options = request.model, request.options
        mask_size = UPLOADED_SIZE if options.mask else None
        kept = count_answer_bytes(model)
        canvas = request.permit.make_canvas(Drawing(None, mask_size=mask_size, kept_bytes=kept))
        with canvas.room:
            classification = await self._classifier.classify(
                request.content, model, lambda _: (), request.timings, request.permit, canvas
            )
            check_mask(classification.answer.mask, model)
            return await self.describe(request, classification, canvas)

    async def describe(
        self,
        request: ImageRequest[PredictOptions],
        classification: Classification[MaskAnswer],
        canvas: Canvas,
    ) -> SegmentationResult:
        """Return the same for an image that is segmented; the canvas has room for its mask.

        Raises:
            Timeout: there is no time to draw the mask.
        """
        model, options, timings = request.model, request.options, request.timings
        picture, mask = classification.picture, classification.answer.mask
        pixels = count_pixels(picture)
        make = partial(make_result, classification, model, options.top_k)
        result = await self._classifier.render(make, pixels, timings, canvas)
        if options.mask:
            size = prod(picture.size)
            check_time(request.permit, size)
            content = await self._classifier.render(
                partial(draw_mask_file, mask, picture, UPLOADED_SIZE, model), size, timings, canvas
            )
            request.permit.add_answer(TEXT_COPIES * len(content) * 4 // 3)
            encode = partial(encode_base64, content)
            result["mask"] = await self._classifier.render(encode, size, timings, canvas)
        return result

    async def draw(self, request: ImageRequest[SegmentOptions], media_type: str) -> bytes:
        """Return the mask as a file, or the picture with the mask over it.

        Raises:
            Timeout: there is no time to draw it.
        """
        model, options = request.model, request.options
        kept = count_answer_bytes(model)
        if options.view is MaskView.MASK:
            drawing = Drawing(None, mask_size=ShownSize(options.size or 0), kept_bytes=kept)
        else:
            drawing = Drawing(ShownSize(options.size), kept_bytes=kept)
        canvas = request.permit.make_canvas(drawing)
        with canvas.room:
            picture, answer = await self._classifier.classify(
                request.content, model, lambda _: (), request.timings, request.permit, canvas
            )
            check_mask(answer.mask, model)
            shown_size = drawing.mask_size or drawing.shown_size
            assert shown_size
            pixels = prod(shown_size(picture.size))
            check_time(request.permit, pixels)
            if drawing.mask_size:
                draw = partial(draw_mask_file, answer.mask, picture, drawing.mask_size, model)
            else:
                draw = partial(draw_overlay, answer.mask, picture, model, options.alpha, media_type)
            return await self._classifier.render(draw, pixels, request.timings, canvas)


def count_answer_bytes(model: Model, rows: int = 1) -> int:
    """The bytes that the model's answers for so many rows take, and what is made of them."""
    spec = model.artifact.card.input
    per_pixel = FLOAT_BYTES * len(model.labels) + WORKING_BYTES
    return rows * per_pixel * spec.width * spec.height


def check_mask(mask: Mask, model: Model) -> None:
    """Check that the mask has classes of the model only.

    Raises:
        InternalError: it has others; a file can hide them from the trial.
    """
    if mask.max() >= len(model.labels):
        raise InternalError("The model failed on this image: its mask has an unknown class.")


def draw_mask_file(mask: Mask, picture: Picture, mask_size: ShownSize, model: Model) -> bytes:
    """The mask as a PNG, on the whole picture in the given size."""
    size, (height, width) = mask_size(picture.size), mask.shape
    placement = find_placement(picture.crop, picture.size, size, (width, height))
    origin = describe_origin(model) | {"view": MaskView.MASK}
    return encode_mask(place_mask(mask, placement), model.palette, origin)


def draw_overlay(
    mask: Mask, picture: Picture, model: Model, alpha: float, media_type: str
) -> bytes:
    """The picture with the mask over it, but not where it is background."""
    assert picture.shown
    image, (height, width) = picture.shown, mask.shape
    placement = find_placement(picture.crop, picture.size, image.size, (width, height))
    opacity = make_opacity(len(model.labels), model.artifact.card.background, alpha)
    draw_mask(image, mask, placement, model.palette, opacity)
    origin = describe_origin(model) | {"view": MaskView.OVERLAY}
    return encode_picture(image, media_type, origin)
