"""Draws a map on its picture: places it where the model looked, colours, blends and encodes it.

The functions run in any thread. They know nothing about models or HTTP.
"""

import io
import json
import math
import zlib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.errors import ImageTooLarge
from service.imaging.decoding import Picture
from service.imaging.geometry import Box, Size
from service.imaging.saliency import Map, normalize_cam, normalize_signed_cam

COLORMAPS_FILE = Path(__file__).with_name("colormaps.png")  # 256 colours per row
BAND_PIXELS = 1 << 18  # the part of a large picture that is drawn at a time
FOR, AGAINST = (255, 140, 0), (40, 90, 255)
TEXT_KEY = "sightglass"
ENCODINGS = {
    # Run lengths only: for photographs smaller and faster than level 1, which searches for matches.
    "image/png": ("PNG", {"compress_level": 1, "compress_type": zlib.Z_RLE}),
    "image/jpeg": ("JPEG", {"quality": 90}),
    "image/webp": ("WEBP", {"quality": 90, "method": 0}),
}
LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383}


class View(StrEnum):
    """What is drawn."""

    OVERLAY = "overlay"
    HEATMAP = "heatmap"
    SIGNED = "signed"


class Colormap(StrEnum):
    """The colours of heat."""

    # in the order of the rows of the colormap file
    VIRIDIS = "viridis"
    TURBO = "turbo"
    GRAY = "gray"


def render_view(
    picture: Picture,
    cam: Map,
    onto: Image.Image,
    view: View,
    colormap: Colormap,
    alpha: float,
) -> None:
    """Draw `cam` (h, w) on `onto`, which holds `picture.shown`, in bands of rows.

    overlay: picture * (1 - alpha * h) + colour(h) * alpha * h, so parts that the model did not use
    stay unchanged. heatmap: colour(h). signed: the overlay of cam / max|cam| in two colours.
    """
    height, width = picture.pixels.shape[:2]
    normalize = normalize_signed_cam if view is View.SIGNED else normalize_cam
    heat = normalize(cam, height, width)
    crop = picture.crop.scale(onto.width / picture.size[0], onto.height / picture.size[1])
    rows = max(1, BAND_PIXELS // onto.width)
    for top in range(0, onto.height, rows):
        bottom = min(top + rows, onto.height)
        placed = place_on_picture(heat, crop.shift(0, -top), (onto.width, bottom - top))
        band = onto if rows >= onto.height else onto.crop((0, top, onto.width, bottom))
        if view is View.SIGNED:
            drawn = _blend_signed(band, placed, alpha)
        elif view is View.HEATMAP:
            drawn = _apply_colormap(placed, colormap)
        else:
            colours = _apply_colormap(placed, colormap)
            drawn = Image.composite(colours, band, _to_bytes_image(alpha * placed))
        onto.paste(drawn, (0, top))


def _blend_signed(band: Image.Image, signed: Map, alpha: float) -> Image.Image:
    """Blend one colour over what is for the target and another over what is against it."""
    is_for = _to_bytes_image(np.float32(1) * (signed > 0))
    colours = Image.composite(
        _make_uniform(band.size, FOR), _make_uniform(band.size, AGAINST), is_for
    )
    return Image.composite(colours, band, _to_bytes_image(alpha * np.abs(signed)))


def place_on_picture(heat: Map, crop: Box, size: Size) -> Map:
    """Stretch `heat` over the `crop` of a picture of `size`; (H, W), 0 outside the crop."""
    x, y = heat.shape[1] / crop.width, heat.shape[0] / crop.height
    inverse = (x, 0, -crop.left * x, 0, y, -crop.top * y)
    image = Image.fromarray(heat)
    return np.asarray(
        image.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    )


def encode_picture(image: Image.Image, media_type: str, origin: Mapping[str, object]) -> bytes:
    """The picture as a file. A PNG gets a text chunk with its origin.

    Raises:
        ImageTooLarge: a side is longer than the format allows.
    """
    file_format, encoder_options = ENCODINGS[media_type]
    longest = LONGEST_SIDES.get(file_format, math.inf)
    if max(image.size) > longest:
        raise ImageTooLarge(
            f"A {file_format} can have sides of at most {longest} pixels, but this one would have "
            f"{image.width} x {image.height}. Set 'size' to a smaller value or ask for a PNG."
        )
    options: dict[str, Any] = dict(encoder_options)
    if file_format == "PNG":
        text = PngInfo()
        text.add_text(TEXT_KEY, json.dumps(origin))
        options["pnginfo"] = text
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@cache
def _read_colormap(colormap: Colormap) -> bytes:
    """256 RGB triples."""
    with Image.open(COLORMAPS_FILE) as image:
        rows = np.asarray(image.convert("RGB"))  # (3, 256, 3)
    return bytes(rows[list(Colormap).index(colormap)].tobytes())


def _apply_colormap(heat: Map, colormap: Colormap) -> Image.Image:
    indexed = _to_bytes_image(heat)
    indexed.putpalette(_read_colormap(colormap))
    return indexed.convert("RGB")


def _make_uniform(size: Size, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", size, colour)


def _to_bytes_image(values: NDArray[np.floating[Any]]) -> Image.Image:
    """`values` (H, W) of 0..1 as a picture of mode L, 0..255."""
    return Image.fromarray((values * 255 + 0.5).astype(np.uint8))
