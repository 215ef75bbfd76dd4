"""Which pixels of an image are explained: a box, a point or all of it, of one class or of any.

A client names them in pixels of the uploaded picture, the model takes them in pixels of its input.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import ANYTHING, AS_TARGET, TOP_1, RegionTarget
from service.errors import BadRequest
from service.imaging.decoding import Picture
from service.imaging.geometry import Box, find_input_box
from service.imaging.mask import Mask, count_classes, rank_classes
from service.inference.results import check_label_index, find_label_index
from service.parameters import ExplainOptions
from service.repository.model import Model

NOWHERE = (0, 0, 0, 0)  # a box without pixels


class Region(NamedTuple):
    """A box of the model's input, half-open, and the class of its pixels."""

    of: int  # or `AS_TARGET` or `ANYTHING`
    box: tuple[int, int, int, int]

    def make_target(self, index: int, of: int | None = None) -> RegionTarget:
        """What the graph is asked; `of` in place of the region's own."""
        return RegionTarget(index, self.of if of is None else of, *self.box)

    def find_of(self, target: int) -> int:
        """The class of the region's pixels, for a target; or `ANYTHING`."""
        return target if self.of == AS_TARGET else self.of

    def select(self, mask: Mask, target: int) -> NDArray[np.bool_]:
        """The pixels of the region, (H, W)."""
        left, top, right, bottom = self.box
        of, selected = self.find_of(target), np.zeros(mask.shape, bool)
        part = mask[top:bottom, left:right]
        selected[top:bottom, left:right] = True if of == ANYTHING else part == of
        return selected

    def rank(self, mask: Mask, model: Model) -> list[int]:
        """The classes of the box, the largest first; of the whole mask if the box is empty."""
        left, top, right, bottom = self.box
        part = mask[top:bottom, left:right]
        counts = count_classes(part if part.size else mask, len(model.labels))
        return rank_classes(counts, model.artifact.card.background)

    def find_on_picture(self, picture: Picture) -> tuple[int, int, int, int] | None:
        """The box in pixels of the uploaded picture; None if it has no pixels."""
        if self.box == NOWHERE:
            return None
        height, width = picture.pixels.shape[:2]
        crop = picture.crop
        box = Box(*self.box).scale(crop.width / width, crop.height / height)
        return box.shift(crop.left, crop.top).round(picture.size)


def read_region(options: ExplainOptions, picture: Picture, model: Model) -> Region:
    """The region that is asked for.

    Raises:
        BadRequest: it lies outside the picture, or the model does not see the point.
        UnknownLabel: there is no class with the name in `of`.
    """
    of = AS_TARGET if options.of is None else find_label_index(options.of, model)
    height, width = picture.pixels.shape[:2]
    crop = picture.crop
    if options.point:
        x, y = (np.floor(number) for number in options.point)
        _check_inside(Box(x, y, x + 1, y + 1), picture, "point")
        u = (x + 0.5 - crop.left) * width / crop.width
        v = (y + 0.5 - crop.top) * height / crop.height
        if not (0 <= u < width and 0 <= v < height):
            seen = crop.round(picture.size)
            raise BadRequest(
                f"The model does not see the point {x:g},{y:g}, only the box "
                f"{seen[0]},{seen[1]},{seen[2]},{seen[3]}: choose a point inside it."
            )
        box = (int(u), int(v), int(u) + 1, int(v) + 1)
        return Region(ANYTHING if options.of is None else of, box)
    if options.box:
        asked = Box(*options.box)
        _check_inside(asked, picture, "box")
        return Region(of, find_input_box(asked, crop, (width, height)) or NOWHERE)
    return Region(of, (0, 0, width, height))


def read_targets(options: ExplainOptions, model: Model) -> list[int]:
    """The classes to explain: `TOP_1` for the largest of the region; empty for the n largest.

    Raises:
        UnknownLabel: the model has no such label or index.
    """
    if options.target_top is not None:
        return []
    if options.target_index is not None:
        return [check_label_index(options.target_index, model)]
    if not options.target and options.of is not None:
        return [find_label_index(options.of, model)]
    return [find_label_index(label, model) for label in options.target] or [TOP_1]


def _check_inside(box: Box, picture: Picture, name: str) -> None:
    width, height = picture.size
    if box.left >= width or box.top >= height or box.right <= 0 or box.bottom <= 0:
        raise BadRequest(
            f"The {name} lies outside the picture, which has {width} x {height} pixels: "
            f"choose one inside it."
        )
