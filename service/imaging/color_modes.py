"""Converts pictures of every mode to opaque 8-bit pictures.

Alpha is composed on white, 16-bit and 32-bit grays are scaled, Lab is converted. A large picture is
converted in bands of rows while it is resized, so memory never holds a second full copy. This
module knows Pillow's modes; it knows nothing about files or models.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from service.imaging.geometry import Box, Size

BAND_PIXELS = 1 << 18  # the part of a large picture that is converted at a time

Converter = Callable[[Image.Image], Image.Image]


def choose_converter(image: Image.Image) -> Callable[[str], Converter]:
    """Return a function that makes a converter to mode "RGB" or "L" for a decoded picture.

    The converter takes the whole picture or a band of it.
    """
    converter: Converter
    if image.has_transparency_data:
        converter = _compose_on_white
    elif image.mode.startswith("I;16"):
        converter = _scale_16_bits
    elif image.mode in ("I", "F"):
        converter = partial(_scale_32_bits, _find_white(image))
    elif image.mode == "LAB":
        converter = _convert_lab
    else:
        return lambda mode: _identity if image.mode == mode else lambda band: band.convert(mode)
    return lambda mode: lambda band: converter(band).convert(mode)


def convert_and_resize(
    image: Image.Image, converter: Converter, box: Box, size: Size, resample: Image.Resampling
) -> Image.Image:
    """Convert the picture and resize its `box` to `size`.

    Pillow resizes along x, then along y, so resizing band by band along x gives the same pixels. If
    the width grows, Pillow begins with y; then the bands keep their width.
    """
    width, height = image.size
    box = Box(max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))
    if converter is _identity or width * height <= BAND_PIXELS:
        return _resize(converter(image), box, size, resample)
    shrinks_width = size[0] <= width
    joined: Image.Image | None = None
    for top, band in _cut_bands(image):
        strip = converter(band)
        if shrinks_width:
            columns = Box(box.left, 0, box.right, strip.height)
            strip = _resize(strip, columns, (size[0], strip.height), resample)
        joined = joined or Image.new(strip.mode, (strip.width, height))
        joined.paste(strip, (0, top))
    assert joined
    if shrinks_width:
        box = Box(0, box.top, size[0], box.bottom)
    return _resize(joined, box, size, resample)


def _identity(image: Image.Image) -> Image.Image:
    return image


def _cut_bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield each band of rows after the number of its first row."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _resize(image: Image.Image, box: Box, size: Size, resample: Image.Resampling) -> Image.Image:
    if size == image.size and box == Box(0, 0, *size):
        return image
    return image.resize(size, resample, box=(box.left, box.top, box.right, box.bottom))


def _compose_on_white(band: Image.Image) -> Image.Image:
    if band.mode.startswith("I;16"):
        gray = np.array(band)  # (H, W)
        gray[gray == band.info["transparency"]] = 65535
        return _scale_16_bits(Image.fromarray(gray))
    white = Image.new("RGBA", band.size, "white")
    white.alpha_composite(band.convert("RGBA"))
    return white.convert("RGB")


def _scale_16_bits(band: Image.Image) -> Image.Image:
    gray = np.asarray(band).astype(np.float32)  # (H, W)
    return Image.fromarray(np.rint(gray / 257).astype(np.uint8))


def _find_white(image: Image.Image) -> float:
    """The white level of 32-bit grays: the smallest of 1, 255, 65535 and 2^32 that holds them.

    The files declare no range.
    """
    peak = max(_read_gray(band).max() for _, band in _cut_bands(image))
    white_levels = ((1.0,) if image.mode == "F" else ()) + (255.0, 65535.0, 2.0**32, inf)
    white = next(level for level in white_levels if peak <= level)
    return float(peak) if white == inf else white


def _scale_32_bits(white: float, band: Image.Image) -> Image.Image:
    gray = _read_gray(band).clip(0) * (255 / white)  # (H, W)
    return Image.fromarray(np.rint(gray).astype(np.uint8))


def _read_gray(band: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(band, dtype=np.float64))  # (H, W)


def _convert_lab(band: Image.Image) -> Image.Image:
    lab: Any = ImageCms.createProfile("LAB")
    srgb: Any = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(band, lab, srgb, outputMode="RGB")
    assert converted
    return converted
