"""Masks on pictures: areas without placing are those of the placed mask; colours and ranks."""

import numpy as np
import pytest

from service.imaging.geometry import Box, find_input_box
from service.imaging.mask import (
    UNSEEN,
    find_largest,
    find_placement,
    make_palette,
    measure_areas,
    place_mask,
    rank_classes,
)

CROPS = [
    ((32, 24), Box(0, 0, 32, 24)),
    ((100, 75), Box(0, 0, 100, 75)),
    ((11, 7), Box(0, 0, 11, 7)),
    ((1, 1), Box(0, 0, 1, 1)),
    ((90, 40), Box(25.5, 0.25, 64.5, 39.75)),
]


@pytest.mark.parametrize(("size", "crop"), CROPS)
def test_areas_are_counted_as_on_the_placed_mask(size: tuple[int, int], crop: Box) -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.random((5, 24, 32), np.float32)
    mask = probabilities.argmax(0).astype(np.uint8)
    placement = find_placement(crop, size, size, (32, 24))
    placed = place_mask(mask, placement)
    assert placed.shape == size[::-1]
    areas = {area.label: area for area in measure_areas(mask, probabilities, placement)}
    assert areas.keys() == {*np.unique(placed).tolist()} - {UNSEEN}
    own = np.where(placed == UNSEEN, 0, probabilities.max(0)[placement.rows][:, placement.columns])
    for label, area in areas.items():
        there = placed == label
        rows, columns = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
        assert area.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert area.pixels == there.sum()
        assert area.probability == pytest.approx(own[there].mean(), abs=1e-6)


def test_the_background_is_the_largest_class_only_if_there_is_no_other() -> None:
    mask = np.zeros((4, 4), np.uint8)
    assert find_largest(mask, 3, 0) == 0
    mask[0, 0] = 2
    assert find_largest(mask, 3, 0) == 2
    assert find_largest(mask, 3, None) == 0
    assert rank_classes(np.array([9, 3, 3, 0]), 0) == [1, 2, 0]


def test_each_label_has_a_colour_of_its_own_by_default_too() -> None:
    for count in (1, 8, 40, 255):
        palette = make_palette(None, count)
        assert len(palette) == 768
        assert len({palette[3 * i : 3 * i + 3] for i in range(count)}) == count
    assert make_palette(["#0a0B0c"], 1)[:6] == b"\n\x0b\x0c\xff\xff\xff"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(0, 0, 100, 80), (0, 0, 10, 8)),
        (Box(14, 26, 16, 27), (1, 2, 2, 3)),
        (Box(15.1, 20, 26, 30), (2, 2, 3, 3)),
        (Box(-50, -50, 25, 35), (0, 0, 2, 3)),
        (Box(99.5, 79.5, 200, 200), (9, 7, 10, 8)),
        (Box(100, 0, 120, 20), None),
        (Box(-20, 0, 0, 20), None),
    ],
)
def test_a_box_has_the_pixels_whose_centres_it_holds_but_at_least_one(
    box: Box, expected: tuple[int, int, int, int] | None
) -> None:
    assert expected == find_input_box(box, Box(0, 0, 100, 80), (10, 8))
