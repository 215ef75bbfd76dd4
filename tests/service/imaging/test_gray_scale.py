"""Deep grays become 8-bit grays by the smallest usual white level that holds them."""

import numpy as np
import pytest
from PIL import Image

from service.imaging.gray_scale import find_gray_scale, find_white, scale_gray


@pytest.mark.parametrize(
    ("largest", "peak", "white"),
    [
        (65535, 0, 255),
        (65535, 255, 255),
        (65535, 256, 4095),
        (65535, 4095, 4095),
        (65535, 4096, 65535),
        (4095, 200, 4095),  # packed numbers of 12 bits have no other depth
        (127, 100, 127),
        (32767, 30_000, 32767),
        (2**32 - 1, 65535, 65535),
        (2**32 - 1, 65536, 2**32 - 1),
        (None, 0, 1),
        (None, 1.5, 1),
        (None, 1.6, 255),
        (None, 382, 255),
        (None, 5000, 4095),
        (None, 90_000, 65535),
        (None, 1e20, 1e20),
    ],
)
def test_white_is_the_smallest_level_that_holds_the_peak(
    largest: int | None, peak: float, white: float
) -> None:
    assert find_white(largest, peak) == white


def test_every_number_of_16_bits_is_rounded_to_the_nearest_level() -> None:
    numbers = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(numbers)
    found = np.asarray(scale_gray(find_gray_scale(image, [image]), image))
    assert found.tolist() == np.rint(numbers / 257).astype(np.uint8).tolist()


def test_what_is_not_a_finite_number_does_not_change_the_others() -> None:
    image = Image.fromarray(np.array([[0.5, np.nan, np.inf, -np.inf, -3, 1]], np.float32))
    found = np.asarray(scale_gray(find_gray_scale(image, [image]), image))
    assert found.tolist() == [[128, 0, 255, 0, 0, 255]]
