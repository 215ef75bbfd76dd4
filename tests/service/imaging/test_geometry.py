"""The geometry finds where the model's input lies on a picture."""

import pytest

from service.artifact.card import InputSpec
from service.imaging.geometry import Box, find_crop, scale_to_longer_side


def make_input(resize: int | None, height: int, width: int) -> InputSpec:
    crop = None if resize is None else "center"
    return InputSpec.model_validate(
        {
            "mode": "RGB",
            "height": height,
            "width": width,
            "resize": resize,
            "crop": crop,
            "interpolation": "bilinear",
        }
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), Box(16, 16, 240, 240)),
        ((512, 512), Box(32, 32, 480, 480)),
        ((1024, 512), Box(288, 32, 736, 480)),
        ((512, 1024), Box(32, 288, 480, 736)),
    ],
)
def test_the_crop_is_the_middle_of_the_resized_picture(
    size: tuple[int, int], expected: Box
) -> None:
    assert expected == find_crop(size, make_input(256, 224, 224))


def test_without_a_crop_the_model_sees_the_whole_picture() -> None:
    assert Box(0, 0, 640, 480) == find_crop((640, 480), make_input(None, 32, 32))


def test_a_pixel_belongs_to_a_box_if_its_centre_does() -> None:
    assert Box(0.6, 0.0, 2.6, 0.9).round((10, 10)) == (1, 0, 3, 1)


@pytest.mark.parametrize("box", [Box(0.1, 0.1, 0.2, 0.2), Box(-5, -5, -4, -4), Box(20, 20, 30, 30)])
def test_a_rounded_box_is_never_empty_and_never_outside(box: Box) -> None:
    left, top, right, bottom = box.round((10, 10))
    assert 0 <= left < right <= 10
    assert 0 <= top < bottom <= 10


@pytest.mark.parametrize(
    ("size", "longer", "expected"),
    [((500, 250), 100, (100, 50)), ((1, 20_000), 1024, (1, 1024)), ((28, 28), 224, (224, 224))],
)
def test_the_longer_side_gets_the_given_length(
    size: tuple[int, int], longer: int, expected: tuple[int, int]
) -> None:
    assert expected == scale_to_longer_side(size, longer)
