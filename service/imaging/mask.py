"""Masks, which give each pixel of the model's input a class: counts, placing, colours, files.

A mask is placed on a picture by the pixel of the model's input under the centre of each pixel of
the picture. So it is never blurred, and no other class comes in at an edge. The functions run in
any thread. They know nothing about models or HTTP.
"""

import colorsys
import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.imaging.geometry import Box, Size, find_cells
from service.imaging.heatmap import BAND_PIXELS, ENCODINGS, TEXT_KEY

UNSEEN = 255  # the value of pixels that the model did not see
OKABE_ITO = (  # eight colours that people with any kind of colour vision can tell apart
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000",
)  # fmt: skip
GOLDEN_RATIO = 0.618034  # as a step of the hue it never comes near a colour that was there
MASK_PNG = {"bits": 8, **ENCODINGS["image/png"][1]}
Mask = NDArray[np.uint8]


class MaskView(StrEnum):
    """What is drawn of a mask."""

    OVERLAY = "overlay"
    MASK = "mask"


class Placement(NamedTuple):
    """For each row and each column of a picture, that of the mask under it; -1 outside."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


class ClassArea(NamedTuple):
    """The pixels of a picture that have one class."""

    label: int
    pixels: int
    box: tuple[int, int, int, int]  # half-open
    probability: float  # the mean over these pixels


def find_placement(crop: Box, picture_size: Size, size: Size, mask_size: Size) -> Placement:
    """Where a mask of `mask_size` lies on a picture that is drawn in `size`.

    `crop` is the part that the model sees of the picture in its own size, `picture_size`.
    """
    crop = crop.scale(size[0] / picture_size[0], size[1] / picture_size[1])
    return Placement(
        find_cells(size[1], crop.top, crop.bottom, mask_size[1]),
        find_cells(size[0], crop.left, crop.right, mask_size[0]),
    )


def count_classes(mask: Mask, labels: int) -> NDArray[np.intp]:
    """How many pixels each class has, (K,)."""
    return np.bincount(mask.ravel(), minlength=labels)


def rank_classes(counts: NDArray[np.intp], background: int | None) -> list[int]:
    """The classes with pixels, by falling number, the lower index first; the background last."""
    ranked: list[int] = np.argsort(-counts, kind="stable").tolist()
    found = [index for index in ranked if counts[index]]
    return sorted(found, key=lambda index: index == background)


def find_largest(mask: Mask, labels: int, background: int | None) -> int:
    """The class with the most pixels; the background only if there is no other."""
    return rank_classes(count_classes(mask, labels), background)[0]


def measure_areas(
    mask: Mask, probabilities: NDArray[np.float32], placement: Placement
) -> list[ClassArea]:
    """The classes that a placed mask has, the largest first; `probabilities` (K, H, W).

    The mask need not be placed: each of its pixels counts as often as the placed mask has it.
    """
    height, width = mask.shape
    rows, columns = placement
    across = np.bincount(columns[columns >= 0], minlength=width).astype(np.float64)  # (W,)
    down = np.bincount(rows[rows >= 0], minlength=height).astype(np.float64)  # (H,)
    own = probabilities.max(0)  # (H, W); the mask is the most probable class of each pixel
    masked = np.empty_like(own)  # once: new memory costs more than the product that it holds
    areas = []
    for index in np.flatnonzero(count_classes(mask, len(probabilities))).tolist():
        there = mask == index
        count = int(down @ (there @ across))
        if not count:
            continue
        top, bottom = _find_span(rows, there[:, across > 0].any(1))
        left, right = _find_span(columns, there[down > 0].any(0))
        box = (left, top, right, bottom)
        np.multiply(own, there, out=masked)
        certainty = float(down @ (masked @ across.astype(own.dtype))) / count
        areas.append(ClassArea(index, count, box, min(1.0, certainty)))
    areas.sort(key=lambda area: -area.pixels)
    return areas


def place_mask(mask: Mask, placement: Placement) -> Mask:
    """The mask on the picture, (H, W); `UNSEEN` outside."""
    rows, columns = placement
    placed: Mask = mask[rows].take(columns, axis=1)
    placed[rows < 0] = UNSEEN
    placed[:, columns < 0] = UNSEEN
    return placed


def encode_mask(placed: Mask, palette: bytes, origin: Mapping[str, object]) -> bytes:
    """The mask as a PNG of mode P with the `palette`, 256 RGB triples, and a text on its origin."""
    image = Image.fromarray(placed)
    image.putpalette(palette)
    text = PngInfo()
    text.add_text(TEXT_KEY, json.dumps(origin))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=text, **MASK_PNG)
    return file.getvalue()


def draw_mask(
    image: Image.Image, mask: Mask, placement: Placement, palette: bytes, opacity: Sequence[int]
) -> None:
    """Draw the mask on a picture, in bands of rows; `opacity` is 0..255 for each of 256 values."""
    height = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        part = Placement(placement.rows[top:bottom], placement.columns)
        colours = Image.fromarray(place_mask(mask, part))
        blend = colours.point(opacity)
        colours.putpalette(palette)
        band = image.crop((0, top, image.width, bottom))
        image.paste(Image.composite(colours.convert("RGB"), band, blend), (0, top))


def make_opacity(labels: int, background: int | None, alpha: float) -> list[int]:
    """How opaque each value of a mask is drawn: `alpha`, but the background and others not at all.

    Returns 256 values of 0..255.
    """
    opaque = round(255 * alpha)
    return [opaque if index < labels and index != background else 0 for index in range(256)]


def make_palette(colours: Sequence[str] | None, labels: int) -> bytes:
    """256 RGB triples, by default colours that are easy to tell apart; white where no label is."""
    if colours is None:
        more = [colorsys.hsv_to_rgb(n * GOLDEN_RATIO % 1, 0.65, 0.85) for n in range(labels)]
        rest = ["#" + bytes(round(255 * part) for part in colour).hex() for colour in more]
        colours = [*OKABE_ITO, *rest][:labels]
    known = b"".join(bytes.fromhex(colour[1:]) for colour in colours)
    return known + b"\xff" * (3 * 256 - len(known))


def _find_span(cells: NDArray[np.intp], wanted: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and after the last pixel of a side that lies over one of the `wanted` cells."""
    over = np.flatnonzero((cells >= 0) & wanted[cells])
    return int(over[0]), int(over[-1]) + 1
