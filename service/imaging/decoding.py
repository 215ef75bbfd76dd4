"""Decodes bytes to the pixels that the model sees and the picture that a person sees.

The content decides the format; the file name and the declared type are ignored. This module knows
the geometry of a model's input. It knows nothing about models, batches or HTTP. Its functions run
in any thread.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
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
from service.imaging.deep_color import load_pixels
from service.imaging.file_kinds import UnsupportedKind, find_branded_format, open_file
from service.imaging.geometry import Box, Size, find_crop

RIFF = b"RIFF"
FORMATS = {  # format: the first bytes of its files
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (RIFF,),
    "AVIF": (),  # it has brands
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
SIGNATURES = tuple(signature for signatures in FORMATS.values() for signature in signatures)
PLUGINS = (  # imported here, because Pillow imports all its plugins at the first unknown file
    AvifImagePlugin,
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
    # EXIF orientation: how to turn the stored picture; does showing it swap the axes, mirror x, y?
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, True, False),
}
# Up to twice its limit Pillow only warns; then our own check rejects the picture.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# As many pictures are decoded at a time as there are cores for them. Each thread costs memory.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@dataclass(frozen=True)
class Picture:
    """A decoded picture. Sizes are those of the picture as shown, with EXIF rotation applied."""

    pixels: NDArray[np.uint8]  # (H, W, C), the model's input
    size: Size
    crop: Box
    shown: Image.Image | None  # RGB, to draw a map on; None if nothing is drawn


def open_image(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header without decoding a pixel.

    Raises:
        UnsupportedMediaType: the content is not an image in an accepted format or kind.
        InvalidImage: the header is broken.
        ImageTooLarge: the image has more than `max_pixels`.
    """
    # The header of a tiny GIF file can make Pillow allocate gigabytes. Its own limit stops that.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = open_file(content, tuple(FORMATS))
    except UnsupportedKind as exc:
        raise UnsupportedMediaType(f"The content is {exc}") from None
    except Image.DecompressionBombError:
        size = _describe_size(content, 2 * max_pixels)
        raise ImageTooLarge(_describe_too_large(size, max_pixels)) from None
    except UnidentifiedImageError:
        if _has_known_signature(content):
            raise InvalidImage(_describe_broken("its header can't be read")) from None
        raise UnsupportedMediaType(
            f"The content is not an image in an accepted format. Send one of {', '.join(FORMATS)}."
        ) from None
    except Exception as exc:  # decoders raise exceptions of any class for hostile input
        raise InvalidImage(_describe_broken(exc)) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(_describe_too_large(f"{width} x {height}", max_pixels))
    return image


def decode_image(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None = None
) -> Picture:
    """Decode an image that `open_image` opened and make the model's input from it.

    With `choose_shown_size` the result also holds the picture itself, in the size that the function
    returns for the size of the uploaded picture.

    Raises:
        InvalidImage: the image is truncated or corrupt.
    """
    try:
        stored, fraction = _load_pixels(image, spec, choose_shown_size)
        orientation = _read_orientation(image)
        size = _find_shown_size(stored, orientation)
        crop = find_crop(size, spec)
        decoded_crop = crop.scale(fraction, fraction)
        input_size = (spec.width, spec.height)
        resample = Image.Resampling[spec.interpolation.upper()]
        make_converter = choose_converter(image)
        model_input = _cut_out(
            image, make_converter(spec.mode), orientation, decoded_crop, input_size, resample
        )
        shown = None
        if choose_shown_size:
            whole = Box(0, 0, *size).scale(fraction, fraction)
            bilinear = Image.Resampling.BILINEAR
            shown = _cut_out(
                image, make_converter("RGB"), orientation, whole, choose_shown_size(size), bilinear
            )
    except Exception as exc:  # as in `open_image`
        raise InvalidImage(_describe_broken(exc)) from None
    pixels = np.asarray(model_input).reshape(spec.height, spec.width, spec.channels)
    return Picture(pixels, size, crop, shown)


def find_draft_scale(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None
) -> float:
    """The factor by which each side of a picture may shrink in the decoder; 1 for most formats.

    A JPEG can be decoded at a half, a quarter or an eighth of its size for a fraction of the cost.
    The decoded picture stays at least `DRAFT_MARGIN` times as large as the model's input.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return 1  # a lossless JPEG has no fractions either
    crop = find_crop(image.size, spec)
    scale = min(crop.width / spec.width, crop.height / spec.height) / DRAFT_MARGIN
    if choose_shown_size:
        scale = min(scale, max(image.size) / max(choose_shown_size(image.size)))
    return scale


def _load_pixels(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None
) -> tuple[Size, float]:
    """Decode the picture. Return its stored size and the fraction at which it was decoded."""
    stored, fraction = image.size, 1.0
    scale = find_draft_scale(image, spec, choose_shown_size)
    if scale >= 2:
        draft = image.draft(None, (int(stored[0] / scale), int(stored[1] / scale)))
        if draft:  # its last pixels may lie half outside, so the sizes don't give the fraction
            fraction = draft[1][2] / stored[0]
    load_pixels(image)
    return stored, fraction


def _describe_size(content: bytes, limit: int) -> str:
    """The size of an image that Pillow rejected. All its readers but GIF's still tell it."""
    for name in FORMATS:
        read_header, _ = Image.OPEN[name]
        with contextlib.suppress(Exception):  # another format, or a GIF
            width, height = read_header(io.BytesIO(content), "").size
            return f"{width} x {height}"
    return f"more than {limit}"


def _describe_too_large(size: str, max_pixels: int) -> str:
    return (
        f"The image has {size} pixels, but at most {max_pixels} in total are accepted. "
        "Send a smaller image."
    )


def _has_known_signature(content: bytes) -> bool:
    if content.startswith(RIFF):  # WebP is one of many RIFF formats
        return content[8:12] == b"WEBP"
    return content.startswith(SIGNATURES) or bool(find_branded_format(content))


def _describe_broken(reason: object) -> str:
    reason = str(reason).strip().rstrip(".")
    return f"The image is truncated or corrupt ({reason}). Send the complete file."


def _read_orientation(image: Image.Image) -> int:
    """The EXIF orientation of a decoded picture.

    A PNG may hold it after its pixels. Pillow turns TIFFs itself while it decodes them.
    """
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # a picture with broken EXIF data is still a picture
        return 1


def _find_shown_size(stored: Size, orientation: int) -> Size:
    swap_axes = orientation in ORIENTATIONS and ORIENTATIONS[orientation][1]
    return (stored[1], stored[0]) if swap_axes else stored


def _cut_out(
    image: Image.Image,
    converter: Converter,
    orientation: int,
    box: Box,
    size: Size,
    resample: Image.Resampling,
) -> Image.Image:
    """Cut out `box` and resize it to `size`; both are given for the picture as shown.

    Only the small result is turned, not the whole picture.
    """
    width, height = image.size
    if orientation not in ORIENTATIONS:
        return convert_and_resize(image, converter, box, size, resample)
    transpose, swap_axes, mirror_x, mirror_y = ORIENTATIONS[orientation]
    if swap_axes:
        box, size = Box(box.top, box.left, box.bottom, box.right), (size[1], size[0])
    if mirror_x:
        box = Box(width - box.right, box.top, width - box.left, box.bottom)
    if mirror_y:
        box = Box(box.left, height - box.bottom, box.right, height - box.top)
    return convert_and_resize(image, converter, box, size, resample).transpose(transpose)
