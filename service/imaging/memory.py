"""Estimates the memory that decoding a picture takes, from its header alone.

This module knows what Pillow and its libraries hold at the peak for each format and mode. It
decodes nothing and reserves nothing.
"""

import io
from collections.abc import Callable
from math import ceil

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from service.artifact.card import InputSpec
from service.imaging.decoding import find_draft_scale
from service.imaging.deep_color import has_deep_color
from service.imaging.geometry import Size

BYTES_PER_PIXEL = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I;16": 2,
    "I;16B": 2,
    "I;16L": 2,
    "I;16N": 2,
}
MAX_BYTES_PER_PIXEL = 4  # for all other modes
WEBP_EXTRA_BYTES = 12  # per pixel: two canvases in libwebp and the bytes that it returns
BMP_EXTRA_BYTES = 2  # per pixel: a run-length encoded file is unpacked and copied
COEFFICIENT_BYTES = 2  # per sample of a JPEG
SOS_TAIL = 3  # bytes after the components in the start of a JPEG's scan
JPEG_SCALES = (8, 4, 2)  # a JPEG can be decoded at these fractions of its size
BITS, SAMPLES, TILE_WIDTH, TILE_LENGTH = 258, 277, 322, 323  # TIFF tags


def estimate_decode_bytes(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None = None
) -> int:
    """The bytes that `decode_image` holds at its peak for an image that `open_image` opened."""
    draft_scale = find_draft_scale(image, spec, choose_shown_size)
    reduction = next((scale for scale in JPEG_SCALES if scale <= draft_scale), 1)
    width, height = (ceil(side / reduction) for side in image.size)
    stored = width * height * BYTES_PER_PIXEL.get(image.mode, MAX_BYTES_PER_PIXEL)
    shown = choose_shown_size(image.size) if choose_shown_size else (0, 0)
    # If the width grows, or may grow because the picture is turned, all of it is converted first.
    # Otherwise only the narrow result is held.
    converted = MAX_BYTES_PER_PIXEL * width * height if max(spec.width, *shown) > width else 0
    return (
        stored
        + MAX_BYTES_PER_PIXEL * shown[0] * shown[1]
        + max(_estimate_extra_bytes(image), converted)
    )


def _estimate_extra_bytes(image: Image.Image) -> int:
    """The bytes that the decoder itself holds in addition to the pixels."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        return WEBP_EXTRA_BYTES * pixels
    if image.format == "BMP":
        return BMP_EXTRA_BYTES * pixels
    if isinstance(image, JpegImageFile):
        return 0 if _is_sequential(image) else COEFFICIENT_BYTES * _count_samples(image)
    second = MAX_BYTES_PER_PIXEL * pixels if has_deep_color(image) else 0  # for the low bytes
    return second + (_count_tiff_bytes(image) if isinstance(image, TiffImageFile) else 0)


def _is_sequential(image: JpegImageFile) -> bool:
    """Whether a JPEG has one scan with all components. Otherwise libjpeg holds all coefficients."""
    if "progressive" in image.info:
        return False
    assert isinstance(image.fp, io.BytesIO)
    # Pillow has just read the start of the first scan, which holds its number of components.
    position = image.fp.tell() - SOS_TAIL - 2 * image.layers - 1
    return position > 0 and bool(image.fp.getbuffer()[position] == image.layers)


def _count_samples(image: JpegImageFile) -> int:
    """The samples of all components of a JPEG, by their sampling factors; 0 for a broken file."""
    factors = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]
    max_horizontal = max(1, *(horizontal for horizontal, _ in factors))
    max_vertical = max(1, *(vertical for _, vertical in factors))
    units = ceil(image.width / (8 * max_horizontal)) * ceil(image.height / (8 * max_vertical))
    return int(64 * units * sum(horizontal * vertical for horizontal, vertical in factors))


def _count_tiff_bytes(image: TiffImageFile) -> int:
    """The larger of one strip or tile, and the picture that Pillow turns itself.

    One strip may be the whole picture.
    """
    tags, pixels = image.tag_v2, image.width * image.height
    bits = max(tags.get(BITS, (1,))) * tags.get(SAMPLES, len(image.getbands()))
    tile = tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0)
    unpacked = int(bits * max(pixels, tile) // 8)
    return max(unpacked, pixels * BYTES_PER_PIXEL.get(image.mode, MAX_BYTES_PER_PIXEL))
