"""Estimates the memory that decoding a picture and drawing on it take, from its header alone.

This module knows what Pillow and its libraries hold at the peak for each format and mode. It
decodes nothing and reserves nothing.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, prod

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.artifact.card import InputSpec
from service.errors import ImageTooLarge, InvalidImage
from service.imaging.color_modes import BAND_PIXELS
from service.imaging.decoding import find_draft_scale
from service.imaging.deep_color import has_deep_color
from service.imaging.file_kinds import AVIF, HEIC
from service.imaging.geometry import ShownSize, Size
from service.imaging.structure import count_lossless_bytes, count_plane_bytes

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
# Each 4 x 4 pixels of a lossless WebP may have a group of codes of their own, of at least 20 bits.
# Usual encoders write fewer groups than these.
GROUP_SIDE, GROUP_BITS, MAX_GROUPS = 4, 20, 1024
GROUP_BYTES = 20_600  # of tables
# Per pixel of an AVIF: the decoder has the planes twice if it adds film grain, and its own tables.
AVIF_PLANES, AVIF_TABLE_BYTES = 2, 1
HEIC_PLANES = 2.4  # the decoder of a HEIC converts the planes in steps and holds two at a time
ALPHA_BANDS = 4
BLOCK_SIDE = 128  # the decoders' pictures of both have whole blocks
BMP_EXTRA_BYTES = 2  # per pixel: a run-length encoded file is unpacked and copied
COEFFICIENT_BYTES = 2  # per sample of a JPEG
SOS_TAIL = 3  # bytes after the components in the start of a JPEG's scan
INPUT_BYTES = 3  # per pixel of the model's input, besides the picture that it is made from
RESIZE_BYTES = 48  # per pixel of each side: Pillow's weights, six numbers for "lanczos"
BAND_BYTES = 40  # per pixel of a band while it is converted: four copies of 64-bit numbers
JPEG_SCALES = (8, 4, 2)  # a JPEG can be decoded at these fractions of its size
# TIFF tags
BITS, SAMPLES, STRIP_OFFSETS, ROWS_PER_STRIP = 258, 277, 273, 278
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 322, 323, 324
TILE_MARGIN = 2  # tiles are larger than the picture by their last column and row
SMALL_PIXELS = 1 << 20
MASK_BYTES = 5  # per pixel: two copies and a half-made one, and the file with its copy
ENCODED_BYTES = 4  # per pixel: the largest PNG has 3, and its buffer grows by an eighth at a time


@dataclass(frozen=True)
class Drawing:
    """How a picture is drawn. One that is drawn on more than once is copied each time.

    `mask_size` is the size of a mask that is encoded. `kept_bytes` are held besides, such as what a
    model answers for each pixel.
    """

    shown_size: ShownSize | None
    is_repeated: bool = False
    mask_size: ShownSize | None = None
    kept_bytes: int = 0


def estimate_decode_bytes(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None = None
) -> int:
    """The bytes that `decode_image` holds at its peak for an image that `open_image` opened.

    Raises:
        InvalidImage: the header has a value of a wrong type.
    """
    try:
        return _estimate_decode_bytes(image, spec, choose_shown_size)
    except Exception as exc:  # the values of a TIFF's tags have any type
        raise InvalidImage(
            f"The image is corrupt (a wrong value in its header: {exc}). Send the complete file."
        ) from None


def count_input_bytes(spec: InputSpec) -> int:
    """The bytes of the model's input, which are held until its answer."""
    return INPUT_BYTES * spec.width * spec.height


def check_tiles(image: Image.Image, max_pixels: int) -> None:
    """Check that the tiles or strips of a TIFF hold not many more pixels than an image may have.

    They may be larger than the image, and all of them may be the same few bytes.

    Raises:
        InvalidImage: their size is no number.
        ImageTooLarge: they hold too many pixels.
    """
    if not isinstance(image, TiffImageFile):
        return
    most = TILE_MARGIN * max(max_pixels, SMALL_PIXELS)
    try:
        pixels = _count_tile_pixels(image)
        is_allowed = bool(pixels <= most)
    except Exception:  # as above
        raise InvalidImage(
            "The image is corrupt (the size of its tiles is no number). Send the complete file."
        ) from None
    if not is_allowed:
        raise ImageTooLarge(
            f"The tiles of the image hold {pixels} pixels, but at most {most} are accepted. "
            "Save it again with smaller tiles."
        )


def may_hide_memory(image: Image.Image) -> bool:
    """Whether decoding may take more memory than `estimate_decode_bytes` says."""
    return _count_groups(image) > MAX_GROUPS


def estimate_drawing_bytes(image: Image.Image, drawing: Drawing) -> int:
    """The bytes that drawing takes, from the decoded picture to the file, and those kept."""
    size = drawing.kept_bytes  # turning the picture does not change the number of its pixels
    if drawing.shown_size:
        copies = 2 if drawing.is_repeated else 1
        per_pixel = copies * MAX_BYTES_PER_PIXEL + ENCODED_BYTES
        size += prod(drawing.shown_size(image.size)) * per_pixel
    if drawing.mask_size:
        size += prod(drawing.mask_size(image.size)) * MASK_BYTES
    return size


def _estimate_decode_bytes(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None
) -> int:
    draft_scale = find_draft_scale(image, spec, choose_shown_size)
    reduction = next((scale for scale in JPEG_SCALES if scale <= draft_scale), 1)
    width, height = (ceil(side / reduction) for side in image.size)
    stored = width * height * BYTES_PER_PIXEL.get(image.mode, MAX_BYTES_PER_PIXEL)
    shown = choose_shown_size(image.size) if choose_shown_size else (0, 0)
    # If the width grows, or may grow because the picture is turned, all of it is converted first.
    # Otherwise only the narrow result is held.
    converted = MAX_BYTES_PER_PIXEL * width * height if max(spec.width, *shown) > width else 0
    wide_band = BAND_BYTES * max(0, width - BAND_PIXELS)  # a band has one row at least
    return (
        stored
        + wide_band
        + RESIZE_BYTES * (width + height + sum(shown) + spec.width + spec.height)
        + MAX_BYTES_PER_PIXEL * (shown[0] * shown[1] + spec.width * spec.height)
        + count_input_bytes(spec)
        + max(_estimate_extra_bytes(image), converted)
    )


def _estimate_extra_bytes(image: Image.Image) -> int:
    """The bytes that the decoder itself holds in addition to the pixels."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        groups = min(_count_groups(image), MAX_GROUPS)
        return WEBP_EXTRA_BYTES * pixels + GROUP_BYTES * groups
    if image.format == AVIF:
        made = len(image.getbands()) * pixels  # bytes that are made of the planes
        return _count_planes(image, AVIF_PLANES, AVIF_TABLE_BYTES) + made
    if image.format == HEIC:
        return _count_planes(image, HEIC_PLANES)
    if image.format == "BMP":
        return BMP_EXTRA_BYTES * pixels
    if isinstance(image, JpegImageFile):
        return 0 if _is_sequential(image) else COEFFICIENT_BYTES * _count_samples(image)
    second = MAX_BYTES_PER_PIXEL * pixels if has_deep_color(image) else 0  # for the low bytes
    return second + (_count_tiff_bytes(image) if isinstance(image, TiffImageFile) else 0)


def _count_groups(image: Image.Image) -> int:
    """The most groups of codes that a picture can have; 0 if it is no WebP with lossless parts."""
    if image.format != "WEBP":
        return 0
    assert isinstance(image, WebPImageFile)
    assert isinstance(image.fp, io.BytesIO)
    in_pixels = ceil(image.width / GROUP_SIDE) * ceil(image.height / GROUP_SIDE)
    return min(in_pixels, 8 * count_lossless_bytes(image.fp.getvalue()) // GROUP_BITS)


def _count_planes(image: Image.Image, copies: float, table_bytes: float = 0) -> int:
    """The planes of luma, chroma and alpha of an AVIF or HEIC, and the decoder's tables."""
    file = getattr(image, "fp", None)
    assert isinstance(file, io.BytesIO)
    planes = count_plane_bytes(file.getvalue(), len(image.getbands()) == ALPHA_BANDS)
    width, height = (ceil(side / BLOCK_SIDE) * BLOCK_SIDE for side in image.size)
    return ceil(width * height * (copies * planes + table_bytes))


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


def _count_tile_pixels(image: TiffImageFile) -> int:
    """The pixels of all tiles or strips; the bands of a pixel may be in tiles of their own."""
    tags = image.tag_v2
    width, height, offsets = image.width, image.height, tags.get(STRIP_OFFSETS, ())
    if TILE_OFFSETS in tags:
        width, height, offsets = tags[TILE_WIDTH], tags[TILE_LENGTH], tags[TILE_OFFSETS]
    elif ROWS_PER_STRIP in tags:
        height = min(height, tags[ROWS_PER_STRIP])
    return int(width * height * len(offsets) // len(image.getbands()))
