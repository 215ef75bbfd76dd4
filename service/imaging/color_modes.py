"""Converts pictures of every mode to opaque 8-bit pictures.

Alpha is composed on white, deep grays are scaled, Lab is converted. A large picture is converted in
bands of rows while it is resized, so memory never holds a second full copy. This module knows
Pillow's modes; it knows nothing about files or models. The training has the same rules in its own
module of this name.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from PIL import Image, ImageCms

from service.imaging.geometry import Box, Size
from service.imaging.gray_scale import find_gray_scale, is_deep_gray, scale_gray

BAND_PIXELS = 1 << 18  # the part of a large picture that is converted at a time

Converter = Callable[[Image.Image], Image.Image]


def choose_converter(image: Image.Image) -> Callable[[str], Converter]:
    """Return a function that makes a converter to mode "RGB" or "L" for a decoded picture.

    The converter takes the whole picture or a band of it.
    """
    converter: Converter
    if is_deep_gray(image):
        bands = (band for _, band in _cut_bands(image))
        converter = partial(scale_gray, find_gray_scale(image, bands))
    elif image.has_transparency_data:
        converter = compose_on_white
    elif image.mode == "LAB":
        converter = convert_lab
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


def compose_on_white(band: Image.Image) -> Image.Image:
    """Return an RGB picture with white behind its transparent pixels."""
    if band.mode == "La":
        band = band.convert("LA")  # the only mode that Pillow converts it to
    white = Image.new("RGBA", band.size, "white")
    white.alpha_composite(band.convert("RGBA"))
    return white.convert("RGB")


def convert_lab(band: Image.Image) -> Image.Image:
    """Return an RGB picture of a Lab one."""
    lab: Any = ImageCms.createProfile("LAB")
    srgb: Any = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(band, lab, srgb, outputMode="RGB")
    assert converted
    return converted
