"""Finds where the model's input lies on a picture. Pure arithmetic that knows no pixels.

Coordinates are continuous: pixel i covers [i, i + 1) and belongs to a region if its centre does.
Resize followed by centre crop is one box on the picture, without rounding. So one resize makes the
model's input, and the inverse places a heatmap exactly.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import InputSpec

Size = tuple[int, int]  # (width, height)
DEFAULT_SIZES = (224, 1024)  # smallest and largest longer side of a drawn picture


@dataclass(frozen=True)
class Box:
    """A region in continuous coordinates."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.bottom - self.top

    def scale(self, x: float, y: float) -> "Box":
        """The region with each axis multiplied by a factor."""
        return Box(self.left * x, self.top * y, self.right * x, self.bottom * y)

    def shift(self, x: float, y: float) -> "Box":
        """The region moved by an offset."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def round(self, size: Size) -> tuple[int, int, int, int]:
        """The pixels whose centres lie inside, half-open, within `size`; at least one pixel."""
        left, right = _round_span(self.left, self.right, size[0])
        top, bottom = _round_span(self.top, self.bottom, size[1])
        return left, top, right, bottom


@dataclass(frozen=True)
class ShownSize:
    """How large a picture is drawn, as the parameter `size` says.

    `longer_side` is in pixels; 0 is the uploaded size, None the uploaded size within limits.
    """

    longer_side: int | None = None

    def __call__(self, size: Size) -> Size:
        """The size of the drawn picture for an uploaded one of `size`."""
        if self.longer_side == 0:
            return size
        smallest, largest = DEFAULT_SIZES
        default = min(max(max(size), smallest), largest)
        return scale_to_longer_side(size, default if self.longer_side is None else self.longer_side)


def find_crop(size: Size, spec: InputSpec) -> Box:
    """The part of a picture of `size` that the model sees.

    As in torchvision's Resize and CenterCrop, the shorter side becomes `resize`, the longer side is
    truncated to a whole pixel, and the crop's corner is rounded.
    """
    width, height = size
    if spec.resize is None:
        return Box(0, 0, width, height)
    if width <= height:
        resized = spec.resize, int(spec.resize * height / width)
    else:
        resized = int(spec.resize * width / height), spec.resize
    left = round((resized[0] - spec.width) / 2)
    top = round((resized[1] - spec.height) / 2)
    crop = Box(left, top, left + spec.width, top + spec.height)
    return crop.scale(width / resized[0], height / resized[1])


def find_input_box(box: Box, crop: Box, input_size: Size) -> tuple[int, int, int, int] | None:
    """The pixels of the model's input that lie under a `box` of the picture, half-open.

    They are those whose centres lie inside; if there are none, the one under the middle of the box.
    None if the model does not see that part of the picture.
    """
    inside = box.shift(-crop.left, -crop.top).scale(
        input_size[0] / crop.width, input_size[1] / crop.height
    )
    across = _find_input_span(inside.left, inside.right, input_size[0])
    down = _find_input_span(inside.top, inside.bottom, input_size[1])
    return (across[0], down[0], across[1], down[1]) if across and down else None


def find_cells(pixels: int, start: float, end: float, cells: int) -> NDArray[np.intp]:
    """Which of the `cells` between `start` and `end` lies under the centre of each pixel of a side.

    It is -1 outside.
    """
    centres = np.arange(pixels) + 0.5
    # The product comes first: so a centre on the edge of a cell is not rounded into another one.
    found: NDArray[np.intp] = np.floor((centres - start) * cells / (end - start)).astype(np.intp)
    found[(found < 0) | (found >= cells)] = -1
    return found


def scale_to_longer_side(size: Size, longer_side: int) -> Size:
    """`size` scaled to the given longer side; each side is at least one pixel."""
    factor = longer_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _find_input_span(start: float, end: float, limit: int) -> tuple[int, int] | None:
    start, end = max(start, 0), min(end, limit)
    if start >= end:
        return None
    first, last = ceil(start - 0.5), ceil(end - 0.5)
    if first == last:  # no centre is inside
        first = int((start + end) / 2)
        last = first + 1
    return first, last


def _round_span(start: float, end: float, limit: int) -> tuple[int, int]:
    first = min(max(ceil(start - 0.5), 0), limit - 1)
    last = min(max(ceil(end - 0.5), first + 1), limit)
    return first, last
