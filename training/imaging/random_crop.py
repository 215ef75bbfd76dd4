"""A random crop of a picture file: of a JPEG only as many pixels are decoded as the crop needs."""

from math import ceil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from training.imaging.color_modes import ORIENTATIONS, read_orientation
from training.imaging.decoding import decode_picture

SIDEWAYS = 5  # from this EXIF orientation on width and height are exchanged


def load_random_crop(path: Path, mode: str, crop: v2.RandomResizedCrop) -> Image.Image:
    """Decode a file, cut out the rectangle that `crop` chooses, and resize it.

    Raises:
        UserError: the picture cannot be decoded.
    """
    box: dict[str, Any] = {}
    size: tuple[int, int] = crop.size

    def choose(image: Image.Image) -> None:
        width, height = read_upright_size(image)
        box.update(crop.make_params([torch.empty(1, height, width, device="meta")]), of=height)
        fraction = min(box["height"] / size[0], box["width"] / size[1])
        if fraction >= 2:  # JPEGs can be decoded at a half, a quarter and an eighth
            image.draft(None, (ceil(image.width / fraction), ceil(image.height / fraction)))

    image = decode_picture(path, mode, choose)
    scale = image.height / box["of"]
    left = min(round(scale * box["left"]), image.width - 1)
    top = min(round(scale * box["top"]), image.height - 1)
    right = min(max(round(scale * (box["left"] + box["width"])), left + 1), image.width)
    bottom = min(max(round(scale * (box["top"] + box["height"])), top + 1), image.height)
    cut = image.crop((left, top, right, bottom))
    resized: Image.Image = v2.functional.resize(cut, list(size), crop.interpolation)
    return resized


def read_upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened picture as a viewer shows it."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow exchanges them itself
        return width, height
    turn = read_orientation(image)
    return (height, width) if turn in ORIENTATIONS and turn >= SIDEWAYS else (width, height)
