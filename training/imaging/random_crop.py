"""A random crop of a picture file: of a JPEG only as many pixels are decoded as the crop needs."""

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
            sides = (max(int(-(-side // fraction)), 1) for side in image.size)
            image.draft(None, tuple(sides))

    image = decode_picture(path, mode, choose)
    scale = image.height / box["of"]
    left, top = (
        min(round(scale * box[name]), side - 1)
        for name, side in (("left", image.width), ("top", image.height))
    )
    height, width = (max(round(scale * box[name]), 1) for name in ("height", "width"))
    return v2.functional.resized_crop(
        image,
        top,
        left,
        min(height, image.height - top),
        min(width, image.width - left),
        list(size),
        crop.interpolation,
    )


def read_upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened picture as a viewer shows it."""
    width, height = image.size
    turn = read_orientation(image)
    return (height, width) if turn in ORIENTATIONS and turn >= SIDEWAYS else (width, height)
