"""Bytes to pixels: what the model sees of a picture, and what a person is shown of it.

What the bytes are decides, never a declared type or file name. Knows the geometry of a model's
input and nothing of models, batches or HTTP. Both functions run in any thread.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.artifact.card import InputSpec
from service.errors import ImageTooLarge, InvalidImage, UnsupportedMediaType
from service.imaging.color_modes import Converter, choose_converter, convert_and_resize
from service.imaging.geometry import Box, Size, find_crop

RIFF = b"RIFF"
FORMATS = {  # format: how its files begin
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (RIFF,),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
SIGNATURES = tuple(start for starts in FORMATS.values() for start in starts)
PLUGINS = (  # named, so that Pillow need not import all it has at the first odd file
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
ORIENTATION_TAG = 0x0112
DRAFT_MARGIN = 2
ORIENTATIONS: dict[int, tuple[Image.Transpose, bool, bool, bool]] = {
    # EXIF orientation: how to show it; and from shown to stored: axes swapped, x and y mirrored
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, True, False),
}
# Up to twice the limit Pillow would only warn; then ours is told, with the size.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Picture:
    """An uploaded picture, decoded. Sizes are of the picture as shown, EXIF rotation applied."""

    pixels: NDArray[np.uint8]  # (H, W, C), the model's input
    size: Size
    crop: Box
    shown: Image.Image | None  # RGB, for drawing on; only where asked for


def open_image(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header; no pixel is decoded.

    Raises:
        UnsupportedMediaType: not an image of an accepted format.
        InvalidImage: one whose header is broken.
        ImageTooLarge: more than `max_pixels`.
    """
    # A few bytes of GIF make Pillow fill gigabytes while it reads their header, but for its limit.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    except Image.DecompressionBombError:
        raise ImageTooLarge(
            f"The image has {_describe_size(content, 2 * max_pixels)} pixels; at most {max_pixels} "
            "in all are accepted."
        ) from None
    except UnidentifiedImageError:
        if _has_known_signature(content):
            raise InvalidImage(_describe_broken("its header can't be read")) from None
        raise UnsupportedMediaType(
            f"The bytes sent are no image of an accepted format: send one of {', '.join(FORMATS)}."
        ) from None
    except Exception as fault:  # decoders raise whatever they like on hostile input
        raise InvalidImage(_describe_broken(fault)) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image has {width} x {height} pixels; at most {max_pixels} in all are accepted."
        )
    return image


def decode_image(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None = None
) -> Picture:
    """Decode what `open_image` opened and make the model's input of it.

    `choose_shown_size` asks for the picture itself, too, at the size it makes of the one as shown.

    Raises:
        InvalidImage: truncated or corrupt.
    """
    try:
        stored, fraction = _load_pixels(image, spec, choose_shown_size)
        orientation = _read_orientation(image)
        size = _show_size(stored, orientation)
        crop = find_crop(size, spec)
        taken_from = crop.scale(fraction, fraction)
        model_size = (spec.width, spec.height)
        resample = Image.Resampling[spec.interpolation.upper()]
        converter = choose_converter(image)
        taken = _cut_out(image, converter(spec.mode), orientation, taken_from, model_size, resample)
        shown = None
        if choose_shown_size:
            whole = Box(0, 0, *size).scale(fraction, fraction)
            bilinear = Image.Resampling.BILINEAR
            shown = _cut_out(
                image, converter("RGB"), orientation, whole, choose_shown_size(size), bilinear
            )
    except Exception as fault:  # as above
        raise InvalidImage(_describe_broken(fault)) from None
    pixels = np.asarray(taken).reshape(spec.height, spec.width, spec.channels)
    return Picture(pixels, size, crop, shown)


def find_draft_scale(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None
) -> float:
    """How much smaller, along each side, a picture may be decoded; 1 where that can't be chosen.

    JPEG's transform gives a half, a quarter or an eighth of the size for a fraction of the cost.
    What is decoded stays at least `SPARE` times as large as what will be made of it.
    """
    if image.format not in ("JPEG", "MPO"):
        return 1
    crop = find_crop(image.size, spec)
    smaller = min(crop.width / spec.width, crop.height / spec.height) / DRAFT_MARGIN
    if choose_shown_size:
        smaller = min(smaller, max(image.size) / max(choose_shown_size(image.size)))
    return smaller


def _load_pixels(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None
) -> tuple[Size, float]:
    """Decode; returns the stored size, and the fraction of it that a large JPEG is decoded at."""
    stored, fraction = image.size, 1.0
    smaller = find_draft_scale(image, spec, choose_shown_size)
    if smaller >= 2:
        drafted = image.draft(None, (int(stored[0] / smaller), int(stored[1] / smaller)))
        if drafted:  # its last pixels may lie half outside, so sizes don't tell the fraction
            fraction = drafted[1][2] / stored[0]
    image.load()
    return stored, fraction


def _describe_size(content: bytes, limit: int) -> str:
    """Of what Pillow refused: its readers tell the size but where they would have to make it."""
    for name in FORMATS:
        read_header, _ = Image.OPEN[name]
        with contextlib.suppress(Exception):  # not of that format, or a GIF
            width, height = read_header(io.BytesIO(content), "").size
            return f"{width} x {height}"
    return f"more than {limit}"


def _has_known_signature(content: bytes) -> bool:
    if content.startswith(RIFF):  # of which WebP is one among many
        return content[8:12] == b"WEBP"
    return content.startswith(SIGNATURES)


def _describe_broken(fault: object) -> str:
    return f"The image is truncated or corrupt ({str(fault).strip().rstrip('.')}): send it whole."


def _read_orientation(image: Image.Image) -> int:
    """Of a picture that is decoded: PNGs may say it last, and Pillow turns TIFFs by itself."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF data makes no broken picture
        return 1


def _show_size(stored: Size, orientation: int) -> Size:
    swapped = orientation in ORIENTATIONS and ORIENTATIONS[orientation][1]
    return (stored[1], stored[0]) if swapped else stored


def _cut_out(
    image: Image.Image,
    converter: Converter,
    orientation: int,
    box: Box,
    size: Size,
    resample: Image.Resampling,
) -> Image.Image:
    """Cut `box` (as shown) out at `size`; only the small result is turned, not the picture."""
    width, height = image.size
    if orientation not in ORIENTATIONS:
        return convert_and_resize(image, converter, box, size, resample)
    turn, swapped, mirror_x, mirror_y = ORIENTATIONS[orientation]
    if swapped:
        box, size = Box(box.top, box.left, box.bottom, box.right), (size[1], size[0])
    if mirror_x:
        box = Box(width - box.right, box.top, width - box.left, box.bottom)
    if mirror_y:
        box = Box(box.left, height - box.bottom, box.right, height - box.top)
    return convert_and_resize(image, converter, box, size, resample).transpose(turn)
