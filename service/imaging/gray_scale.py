"""Finds what the numbers of a deep gray picture mean, and makes an 8-bit picture of them.

A file says how many bits its numbers have, but not how many of them the camera filled. This module
knows Pillow's modes of more than 8 bits, and the tags of a TIFF that describe its numbers. The
service and the training have the same copy of it, because neither imports the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

DEPTHS = (255, 4095, 65535)  # the largest numbers of 8, 12 and 16 bits
FLOAT_WHITES = (1, *DEPTHS, 2**32 - 1)
OVERSHOOT = 1.5  # floating-point pictures exceed white where they were sharpened or enlarged
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
WHITE_IS_ZERO, SIGNED = 0, 2

Stored = NDArray[Any]  # (H, W) unsigned or signed integers, or floating point


@dataclass(frozen=True)
class GrayScale:
    """What the numbers of a picture mean."""

    largest: int | None  # that the file's numbers can hold; None: floating point
    white: float  # the number that stands for white, or for black if inverted
    inverted: bool
    transparent: int | None  # the number of the transparent pixels


def is_deep_gray(image: Image.Image) -> bool:
    """Return whether the picture has one number of more than 8 bits per pixel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def find_gray_scale(image: Image.Image, bands: Iterable[Image.Image]) -> GrayScale:
    """Return what the numbers of a decoded deep gray picture mean, from all its bands of rows."""
    largest, inverted = _read_kind(image)
    transparent = image.info.get("transparency")
    peak = max(_find_peak(_read_numbers(band, largest), transparent) for band in bands)
    return GrayScale(largest, find_white(largest, peak), inverted, transparent)


def find_white(largest: int | None, peak: float) -> float:
    """Return the number that stands for white in a picture whose largest number is `peak`.

    It is the smallest of the usual white levels that holds the peak.
    """
    if largest is None:
        return next((white for white in FLOAT_WHITES if peak <= OVERSHOOT * white), peak)
    if largest in DEPTHS[:-1]:  # the file stores just so many bits
        return largest
    return next((white for white in DEPTHS if peak <= white < largest), largest)


def scale_gray(scale: GrayScale, band: Image.Image) -> Image.Image:
    """Return an 8-bit picture (mode "L") of a deep gray one, or of a band of it."""
    stored = _read_numbers(band, scale.largest)
    exact: Any = np.float32 if stored.dtype.itemsize == 2 else np.float64
    gray: NDArray[Any] = stored.astype(exact).clip(0, scale.white)
    if scale.inverted:
        gray = scale.white - gray
    pixels = np.rint(gray * (255 / scale.white)).astype(np.uint8)
    if scale.transparent is not None:
        pixels[stored == scale.transparent] = 255
    return Image.fromarray(pixels)


def _read_kind(image: Image.Image) -> tuple[int | None, bool]:
    """The largest number that the file can hold (None: floating point), and whether 0 is white."""
    bits, signed, inverted = (32, True, False) if image.mode == "I" else (16, False, False)
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        bits, signed = tags.get(BITS, (bits,))[0], SIGNED in tags.get(SAMPLE_FORMAT, ())
        inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    return None if image.mode == "F" else 2 ** (bits - signed) - 1, inverted


def _read_numbers(band: Image.Image, largest: int | None) -> Stored:
    """The numbers as they are stored. What is not a number becomes 0."""
    stored: Stored = np.asarray(band)
    if largest is None:
        return np.nan_to_num(stored, posinf=np.inf, neginf=-np.inf)
    # Pillow has no mode for unsigned numbers of 32 bits, and reads them as signed ones.
    return stored.view(np.uint32) if largest == 2**32 - 1 else stored


def _find_peak(stored: Stored, transparent: int | None) -> float:
    """The largest finite number of a pixel that is not transparent, at least 0."""
    if transparent is not None:
        stored = stored[stored != transparent]
    finite: Any = np.isfinite(stored) if stored.dtype.kind == "f" else True
    return float(stored.max(initial=0, where=finite))
