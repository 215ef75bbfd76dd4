"""Shifts, turns, scales and shears a picture at random, and its mask along with it.

It does what RandomAffine of torchvision does, but it also continues a picture beyond its edges.
There Pad, RandomAffine and CenterCrop would take three times as long.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import IGNORED

MOVES = 5  # random numbers of a move: turn, zoom, shear, right and down


class RandomMove(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """One affine transform for each picture."""

    _transformed_types = (Image.Image, tv_tensors.Mask)

    def __init__(self, augment: Augmentation) -> None:
        super().__init__()
        self.augment = augment

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The matrix (2, 3) from a place in the result to one in the picture."""
        height, width = v2.functional.get_size(flat_inputs[0])
        numbers = torch.rand(1, MOVES).numpy()
        return {"matrix": make_matrices(self.augment, numbers, width, height)[0]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Move a picture by interpolation, a mask without it."""
        matrix = params["matrix"]
        if isinstance(inpt, Image.Image):
            return self.move(inpt, matrix, Image.Resampling.BILINEAR, 0)
        mask = self.move(Image.fromarray(inpt.numpy()), matrix, Image.Resampling.NEAREST, IGNORED)
        return tv_tensors.wrap(torch.from_numpy(np.array(mask)), like=inpt)

    def move(
        self,
        image: Image.Image,
        matrix: NDArray[np.float64],
        resampling: Image.Resampling,
        outside: int,
    ) -> Image.Image:
        size = image.size
        if self.augment.padding != "zeros":
            image, start = extend(image, matrix, self.augment.padding)
            matrix = matrix + np.column_stack([np.zeros((2, 2)), start])
        return image.transform(
            size, Image.Transform.AFFINE, matrix.ravel().tolist(), resampling, fillcolor=outside
        )


def make_matrices(
    augment: Augmentation, numbers: NDArray[np.float32], width: int, height: int
) -> NDArray[np.float64]:
    """Matrices (n, 2, 3) from a place in the result to one in the picture, in pixels.

    By numbers of 0..1 (n, 5).
    """
    turn, zoom, shear, right, down = (2 * numbers.astype(float) - 1).T
    angle = np.radians(turn * augment.rotate)
    cos, sin = np.cos(angle), np.sin(angle)
    zoom, shear = 1 + zoom * augment.scale, shear * augment.shear
    # Forward it is zoom * rotation @ ((1, shear), (0, 1)) around the middle, then the shift.
    a, b, c, d = (each / zoom for each in (cos + shear * sin, sin - shear * cos, -sin, cos))
    x, y = width / 2, height / 2
    moved_x, moved_y = x + augment.shift * right * width, y + augment.shift * down * height
    rows = [[a, b, x - a * moved_x - b * moved_y], [c, d, y - c * moved_x - d * moved_y]]
    return np.array(rows).transpose(2, 0, 1)


def extend(
    image: Image.Image, matrix: NDArray[np.float64], padding: str
) -> tuple[Image.Image, NDArray[np.int64]]:
    """The picture with all that the matrix takes from outside, and where it begins there."""
    width, height = image.size
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    places = matrix @ corners  # (2, 4)
    first = np.minimum(np.floor(places.min(1)).astype(int) - 1, 0)
    last = np.maximum(np.ceil(places.max(1)).astype(int) + 1, image.size)
    columns, rows = (
        continue_index(np.arange(*ends), side, padding)
        for ends, side in zip(zip(first, last, strict=True), image.size, strict=True)
    )
    pixels = np.asarray(image)
    return Image.fromarray(pixels[rows].take(columns, 1)), -first


def continue_index(index: NDArray[np.int64], side: int, padding: str) -> NDArray[np.int64]:
    """Indices beyond the edges as indices of a side: of its last pixel, or mirrored."""
    if padding == "border":
        return index.clip(0, side - 1)
    index = index % (2 * side)
    return np.minimum(index, 2 * side - 1 - index)
