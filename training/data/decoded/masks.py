"""Masks of files as an array that is decoded where it is read, and the rules for one mask.

Knows nothing of folders or labels.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.decoded.pictures import DecodedRows
from training.data.decoded.store import PixelStore, Slots
from training.errors import UserError
from training.imaging.file_kinds import open_file
from training.imaging.preprocessing import IGNORED, Input, Pixels, resize_and_crop
from training.imaging.random_crop import read_upright_size

INDEX_MODES = ("L", "P", "1")  # one number a pixel, which is the class
LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")


@dataclass(frozen=True)
class MaskedPicture:
    """The files of a picture and of its mask."""

    picture: Path
    mask: Path


class FileMasks(DecodedRows):
    """Masks (N, H, W) of files in the network's size."""

    def __init__(
        self,
        files: tuple[MaskedPicture, ...],
        input_spec: Input,
        classes: int,
        store: PixelStore,
        slots: Slots,
    ) -> None:
        super().__init__(store, slots)
        self.files, self.input_spec, self.classes = files, input_spec, classes

    def decode(self, row: int) -> Pixels:
        return resize_mask(read_mask(self.files[row], self.classes), self.input_spec)

    def select(self, rows: NDArray[Any]) -> Self:
        files = tuple(self.files[i] for i in np.arange(len(self))[rows])
        return type(self)(files, self.input_spec, self.classes, self.store, self.slots[rows])


def resize_mask(mask: Pixels, input_spec: Input) -> Pixels:
    """A mask (h, w) resized and cropped like its picture: (H, W). What it lacks is ignored."""
    geometry = replace(input_spec, mode="L", interpolation="nearest", mean=(0.0,), std=(1.0,))
    # A crop pads with 0, so ignored pixels are 0 here.
    return IGNORED - resize_and_crop(Image.fromarray(IGNORED - mask), geometry)[..., 0]


def read_mask(pair: MaskedPicture, classes: int) -> Pixels:
    """The classes (h, w) uint8 of a mask at its own size.

    Raises:
        UserError: it is not a picture of class indices, or does not fit its picture.
    """
    path = pair.mask
    try:
        with Image.open(path) as image:
            kind, mode, size = image.format, image.mode, image.size
            mask = np.array(image.convert("L") if mode == "1" else image)
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(
            f"The mask {path} cannot be read: {error}. Save it again as PNG."
        ) from error
    if kind in LOSSY_FORMATS:
        raise UserError(
            f"The mask {path} is a {kind} file, which does not keep exact values. Save masks as "
            "PNG from the program that drew them."
        )
    if mode not in INDEX_MODES:
        raise UserError(
            f"The mask {path} has mode {mode}. A mask must have one number of 8 bits per pixel, "
            "the index of its class: mode L or P."
        )
    wanted = read_file_size(pair.picture)
    if size != wanted:
        raise UserError(
            f"The mask {path} is {size[0]} x {size[1]}, its picture {wanted[0]} x {wanted[1]}. "
            "Both must have the same size."
        )
    mask = mask // 255 if mode == "1" else mask
    wrong = mask[(mask >= classes) & (mask != IGNORED)]
    if wrong.size:
        raise UserError(
            f"The mask {path} has the value {wrong.max()}, but there are {classes} labels. Values "
            f"must be 0 to {classes - 1}, or {IGNORED} for pixels to ignore."
        )
    return mask


def read_file_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture file as a viewer shows it."""
    try:
        with open_file(path.read_bytes()) as image:
            return read_upright_size(image)
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(f"{path} is not a picture that can be decoded: {error}.") from error
