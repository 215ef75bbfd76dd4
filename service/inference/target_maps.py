"""What is done with a map, whatever it explains: it is drawn, and the picture is blurred by it.

Knows the time and the memory that drawing takes, but not how maps are computed.
"""

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

from PIL import Image

from service.imaging.decoding import Picture
from service.imaging.heatmap import View, encode_picture, render_view
from service.imaging.memory import count_input_bytes
from service.imaging.occlusion import blur_hottest_and_coldest
from service.imaging.saliency import Map, is_empty
from service.inference.classifier import Classifier
from service.inference.image_request import ExplainRequest, check_time, count_pixels
from service.inference.room import Canvas
from service.repository.model import Model
from service.runtime.row import AnyAnswer

TEXT_COPIES = 2  # of a drawn picture as text, while the answer is put together
PNG = "image/png"
BLURRED_INPUTS = 2  # the hottest part, and the coldest


class TargetMap(NamedTuple):
    """The map of one target."""

    target: int
    against: int | None
    cam: Map  # (h, w), signed


class EncodedMap(NamedTuple):
    """An encoded picture, and whether its map is empty."""

    content: bytes
    empty: bool


class MapRenderer:
    """Draws the maps of one image on it, within the time and the room that there are."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def render(
        self,
        request: ExplainRequest,
        picture: Picture,
        target_map: TargetMap,
        media_type: str,
        canvas: Canvas,
        is_last: bool = True,
    ) -> EncodedMap:
        """Draw one map on the picture, or on a copy of it if it `is_last` is not.

        Raises:
            Timeout: there is no time for it before the deadline.
        """
        assert picture.shown
        pixels = count_pixels(picture) + prod(picture.shown.size)
        onto = picture.shown if is_last else None
        check_time(request.permit, pixels)
        draw = partial(render_target_map, target_map, picture, request, media_type, onto)
        return await self._classifier.render(draw, pixels, request.timings, canvas)

    async def render_each(
        self,
        request: ExplainRequest,
        picture: Picture,
        target_maps: Sequence[TargetMap],
        explanations: Sequence[Any],
        canvas: Canvas,
    ) -> None:
        """Draw the maps one after another, each as the `picture` of its explanation.

        What is drawn counts as bytes of the answer.
        """
        assert picture.shown
        pixels = count_pixels(picture) + prod(picture.shown.size)
        for target_map, explanation in zip(target_maps, explanations, strict=True):
            is_last = target_map is target_maps[-1]
            encoded = await self.render(request, picture, target_map, PNG, canvas, is_last)
            request.permit.add_answer(TEXT_COPIES * len(encoded.content) * 4 // 3)
            explanation["picture"] = await self._classifier.render(
                partial(encode_base64, encoded.content), pixels, request.timings, canvas
            )

    async def run_blurred(
        self, request: ExplainRequest, picture: Picture, cam: Map, canvas: Canvas
    ) -> Sequence[AnyAnswer]:
        """Run the model with the hottest part blurred, and with the coldest part blurred."""
        blurred = await self._classifier.render(
            lambda: blur_hottest_and_coldest(picture.pixels, cam),
            count_pixels(picture),
            request.timings,
            canvas,
        )
        model, timings, room = request.model, request.timings, canvas.room
        return await asyncio.gather(
            *(
                self._classifier.run(pixels, model, (), timings, room, is_traffic=False)
                for pixels in blurred
            )
        )


def count_blurred_bytes(request: ExplainRequest) -> int:
    """The bytes of the inputs with blurred parts, if they are asked for."""
    blurred = BLURRED_INPUTS if request.options.verify else 0
    return blurred * count_input_bytes(request.model.artifact.card.input)


def encode_base64(content: bytes) -> str:
    """A file as text."""
    return base64.b64encode(content).decode()


def render_target_map(
    target_map: TargetMap,
    picture: Picture,
    request: ExplainRequest,
    media_type: str,
    onto: Image.Image | None,
) -> EncodedMap:
    """Draw the map on `onto`, the decoded picture, or on a copy of it, and encode it."""
    model, options = request.model, request.options
    assert picture.shown is not None
    image = onto or picture.shown.copy()
    view = options.view or View.OVERLAY
    render_view(picture, target_map.cam, image, view, options.colormap, options.alpha)
    gradcam = model.artifact.card.gradcam
    origin = describe_origin(model) | {
        "target": model.labels[target_map.target],
        "layer": gradcam.layer,
        "method": gradcam.method,
    }
    if target_map.against is not None:
        origin["against"] = model.labels[target_map.against]
    return EncodedMap(encode_picture(image, media_type, origin), is_empty(target_map.cam))


def describe_origin(model: Model) -> dict[str, object]:
    """What a drawn picture says of the model."""
    return {
        "model": model.name,
        "version": model.version,
        "sha256": model.artifact.sha256,
    }
