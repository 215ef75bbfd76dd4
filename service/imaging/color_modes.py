"""Pictures of every mode as 8-bit opaque ones: alpha on white, deep grays scaled, Lab converted.

A large picture is converted a band of rows at a time while it is made smaller, so it is never held
a second time. Knows Pillow's modes, and nothing of files or models.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from service.imaging.geometry import Box, Size

BAND_PIXELS = 1 << 18  # of a large picture that are converted at a time

Converter = Callable[[Image.Image], Image.Image]


def choose_converter(image: Image.Image) -> Callable[[str], Converter]:
    """How to convert a decoded picture, whole or in bands, to mode "RGB" or "L"."""
    converter: Converter
    if image.has_transparency_data:
        converter = _compose_on_white
    elif image.mode.startswith("I;16"):
        converter = _scale_16_bits
    elif image.mode in ("I", "F"):
        converter = partial(_scale_by, _find_range(image))
    elif image.mode == "LAB":
        converter = _convert_lab
    else:
        return lambda mode: _identity if image.mode == mode else lambda band: band.convert(mode)
    return lambda mode: lambda band: converter(band).convert(mode)


def convert_and_resize(
    image: Image.Image, converter: Converter, box: Box, size: Size, resample: Image.Resampling
) -> Image.Image:
    """`box` of the picture, flattened, at `size`.

    Pillow resizes along x, then along y, so bands made narrow one by one give the same pixels. It
    begins with y where x grows, so there they stay as wide as they are.
    """
    width, height = image.size
    box = Box(max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))
    if converter is _identity or width * height <= BAND_PIXELS:
        return _resize(converter(image), box, size, resample)
    narrows = size[0] <= width
    narrow: Image.Image | None = None
    for top, band in _cut_bands(image):
        strip = converter(band)
        if narrows:
            across = Box(box.left, 0, box.right, strip.height)
            strip = _resize(strip, across, (size[0], strip.height), resample)
        narrow = narrow or Image.new(strip.mode, (strip.width, height))
        narrow.paste(strip, (0, top))
    assert narrow
    if narrows:
        box = Box(0, box.top, size[0], box.bottom)
    return _resize(narrow, box, size, resample)


def _identity(image: Image.Image) -> Image.Image:
    return image


def _cut_bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Each with the row where it begins."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _resize(image: Image.Image, box: Box, size: Size, resample: Image.Resampling) -> Image.Image:
    if size == image.size and box == Box(0, 0, *size):
        return image
    return image.resize(size, resample, box=(box.left, box.top, box.right, box.bottom))


def _compose_on_white(band: Image.Image) -> Image.Image:
    if band.mode.startswith("I;16"):
        deep = np.array(band)  # (H, W)
        deep[deep == band.info["transparency"]] = 65535
        return _scale_16_bits(Image.fromarray(deep))
    white = Image.new("RGBA", band.size, "white")
    white.alpha_composite(band.convert("RGBA"))
    return white.convert("RGB")


def _scale_16_bits(band: Image.Image) -> Image.Image:
    deep = np.asarray(band).astype(np.float32)  # (H, W)
    return Image.fromarray(np.rint(deep / 257).astype(np.uint8))


def _find_range(image: Image.Image) -> float:
    """32-bit grays declare no range: the smallest of 1, 255, 65535, 2^32 that holds them is it."""
    peak = max(_read_deep(band).max() for _, band in _cut_bands(image))
    declared = ((1.0,) if image.mode == "F" else ()) + (255.0, 65535.0, 2.0**32, inf)
    scale = next(top for top in declared if peak <= top)
    return float(peak) if scale == inf else scale


def _scale_by(top: float, band: Image.Image) -> Image.Image:
    deep = _read_deep(band).clip(0) * (255 / top)  # (H, W)
    return Image.fromarray(np.rint(deep).astype(np.uint8))


def _read_deep(band: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(band, dtype=np.float64))  # (H, W)


def _convert_lab(band: Image.Image) -> Image.Image:
    lab: Any = ImageCms.createProfile("LAB")
    srgb: Any = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(band, lab, srgb, outputMode="RGB")
    assert converted
    return converted
