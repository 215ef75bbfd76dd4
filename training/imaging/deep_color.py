"""Decodes pixels, and scales RGB of 16 bits of which a camera filled only 8 or 12.

Pillow keeps the high bytes of such numbers. Where they are next to nothing, the file is decoded a
second time for the low bytes. This module knows Pillow's raw modes. The service and the training
have the same copy of it, because neither imports the other.
"""

import io
import sys
from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from training.imaging.file_kinds import PLANAR, TiffFile, open_file
from training.imaging.gray_scale import find_white

OTHER_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
COLOR_MODES = ("RGB", "RGBA")
DEEP_MODES = tuple(f"{mode};16{order}" for mode in COLOR_MODES for order in OTHER_BYTES)
DARK = 16  # the high bytes of numbers of 12 bits are below it
BAND_PIXELS = 1 << 16  # the part of a picture that is scaled at a time


def has_deep_color(image: Image.Image) -> bool:
    """Return whether an opened picture stores RGB with 16 bits."""
    return _find_raw_mode(image) in DEEP_MODES


def load_pixels(image: Image.Image) -> None:
    """Decode an opened picture in place.

    Raises:
        Exception: any, of the decoders.
    """
    raw_mode, file = _find_raw_mode(image), getattr(image, "fp", None)
    image.load()
    if raw_mode not in DEEP_MODES:
        return
    white = 65535
    if _find_peak(image) < DARK:
        assert isinstance(file, io.BytesIO)
        assert image.format
        low_bytes = open_file(file.getvalue(), (image.format,))
        other = raw_mode[:-1] + OTHER_BYTES[raw_mode[-1]]
        low_bytes.tile = [
            tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))
            for tile in low_bytes.tile
            if tile.args
        ]
        low_bytes.load()
        white = _scale_in_place(image, low_bytes)
    if "transparency" in image.info:  # a color with numbers of 16 bits
        color = image.info["transparency"]
        image.info["transparency"] = tuple(min(n, white) * 255 // white for n in color)


def _find_raw_mode(image: Image.Image) -> str:
    """How the numbers of an opened PNG or TIFF are stored; empty for other pictures."""
    if image.mode not in COLOR_MODES or image.format not in ("PNG", "TIFF"):
        return ""
    assert isinstance(image, ImageFile.ImageFile)
    if isinstance(image, TiffFile) and image.tag_v2.get(PLANAR) == 2:
        return ""  # Pillow ignores the raw mode
    args = image.tile[0].args if image.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _find_peak(image: Image.Image) -> int:
    """The largest high byte of a color, without alpha."""
    return max(high for _, high in cast("tuple[tuple[int, int], ...]", image.getextrema())[:3])


def _scale_in_place(image: Image.Image, low_bytes: Image.Image) -> int:
    """Replace the high bytes by the scaled numbers. Return the number that stands for white."""
    peaks = np.max([numbers.max((0, 1)) for _, numbers in _cut_bands(image, low_bytes)], 0)  # (C)
    white = int(find_white(65535, float(peaks[:3].max())))
    scaled = peaks <= white  # an opaque alpha may be stored with all its bits
    for top, numbers in _cut_bands(image, low_bytes):
        pixels = np.where(scaled, np.rint(numbers * (255 / white)), numbers >> 8)  # (H, W, C)
        image.paste(Image.fromarray(pixels.astype(np.uint8)), (0, top))
    return white


def _cut_bands(
    high_bytes: Image.Image, low_bytes: Image.Image
) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield the numbers (H, W, C) of each band of rows after the number of its first row."""
    width, height = high_bytes.size
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        high, low = (np.asarray(image.crop(box), np.uint16) for image in (high_bytes, low_bytes))
        yield top, high * np.uint16(256) + low
