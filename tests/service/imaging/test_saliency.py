"""A cam becomes a map of 0..1, and its box is the region around the maximum."""

import numpy as np
import pytest
from numpy.typing import NDArray

from service.imaging.geometry import Box
from service.imaging.saliency import find_box, is_empty, normalize_cam, normalize_signed_cam


def make_cam(seed: int, shape: tuple[int, int] = (7, 7)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_map_equals_that_of_pytorch_grad_cam(seed: int) -> None:
    # Imported here, since pytorch_grad_cam takes seconds to import.
    from pytorch_grad_cam.utils.image import scale_cam_image

    cam = make_cam(seed)
    resized = scale_cam_image(np.maximum(cam, 0)[np.newaxis], (224, 200))
    expected = scale_cam_image(resized)[0]
    assert np.abs(expected - normalize_cam(cam, 200, 224)).max() <= 1e-5


def test_an_enlarged_map_still_ranges_from_0_to_1() -> None:
    heat = normalize_cam(make_cam(1), 28, 28)
    assert heat.min() == 0
    assert heat.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("cam", "expected"),
    [
        (np.zeros((4, 4)), True),
        (np.full((4, 4), 3.0), True),
        (-np.eye(4), True),
        (np.eye(4) * 1e-5 - 1, True),
        (np.eye(4), False),
        (np.eye(4) - 0.5, False),
    ],
)
def test_a_map_is_empty_without_evidence_for_the_target(
    cam: NDArray[np.float64], expected: bool
) -> None:
    found = cam.astype(np.float32)
    assert expected == is_empty(found)
    assert expected == (normalize_cam(found, 8, 8).max() == 0)


def test_the_signed_map_keeps_its_zero_and_its_signs() -> None:
    signed = normalize_signed_cam(np.array([[2, 0], [0, -4]], np.float32), 2, 2)
    assert signed.tolist() == [[0.5, 0], [0, -1]]


def flood(hot: NDArray[np.bool_], start: tuple[int, int]) -> Box:
    """The box of the region around `start`, found pixel by pixel."""
    seen, pending = {start}, [start]
    while pending:
        row, column = pending.pop()
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= r < hot.shape[0] and 0 <= c < hot.shape[1]
            if inside and hot[r, c] and (r, c) not in seen:
                seen.add((r, c))
                pending.append((r, c))
    rows, columns = zip(*seen, strict=True)
    return Box(min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@pytest.mark.parametrize("threshold", [0.05, 0.15, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(10))
def test_the_box_holds_the_connected_region_around_the_maximum(seed: int, threshold: float) -> None:
    heat = normalize_cam(make_cam(seed, (9, 9)), 40, 50)
    row, column = divmod(int(heat.argmax()), 50)
    assert flood(heat >= threshold * heat.max(), (row, column)) == find_box(heat, threshold)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.2, Box(0, 0, 5, 1)),
        (0.3, Box(1, 0, 5, 1)),
        (0.5, Box(1, 0, 4, 1)),
        (0.8, Box(3, 0, 4, 1)),
    ],
)
def test_a_higher_threshold_makes_a_smaller_box(threshold: float, expected: Box) -> None:
    heat = np.array([[1, 2, 3, 4, 1.5, 0, 4]], np.float32)  # the last spot is not connected
    assert expected == find_box(heat, threshold)


def test_a_spiral_is_one_region() -> None:
    rows = ["#####", "    #", "### #", "#   #", "#####"]
    heat = np.array([[character == "#" for character in line] for line in rows], np.float32)
    heat[2, 2] = 2
    assert Box(0, 0, 5, 5) == find_box(heat, 0.5)


def test_a_map_without_heat_has_no_box() -> None:
    assert find_box(np.zeros((5, 5), np.float32), 0.5) is None
