"""Masks, boxes and points are at the right pixels for every shape and orientation of a picture.

What is expected is computed pixel by pixel and without the service's own geometry. One model sees
the whole picture, resized to 32 x 24. The other sees the middle, after the shorter side has been
scaled to 32.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.contract.images.test_heatmaps import SIZES, find_seen
from tests.contract.pictures import STORE, turn
from tests.contract.segmentation.requests import SIDE, ask, expect, explain, post
from tests.server import Server
from tests.service.mask_model import (
    BLUE,
    RED,
    Expected,
    answer,
    expect_cam,
    paint,
    read_palette_png,
)
from tests.service.quadrants_model import encode

INPUTS = {"cells": (32, 24), "cropped": (SIDE, SIDE)}
UNSEEN = 255


def paint_picture(size: tuple[int, int]) -> Image.Image:
    """A picture of `size` with a red and a blue rectangle at odd places."""
    width, height = size
    red = (width // 7, height // 5, max(width // 7 + 1, width // 2 + 1), height // 2 + 1)
    blue = (width // 2 + 1, height // 2, width - width // 9, height - height // 11)
    return paint((RED, red), (BLUE, blue), size=size)


def find_part(model: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part that the model sees: left, top, and the size of one of its pixels."""
    if model == "cropped":
        return find_seen(size)
    return 0.0, 0.0, size[0] / INPUTS[model][0], size[1] / INPUTS[model][1]


def expect_answer(model: str, image: Image.Image) -> Expected:
    """What the model must answer for the part that it sees."""
    width, height = INPUTS[model]
    if model == "cells":
        return expect(image)
    left, top, x, y = find_part(model, image.size)
    box = (left, top, min(left + width * x, image.width), min(top + height * y, image.height))
    return answer(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box)))


def place(
    model: str, expected: Expected, size: tuple[int, int], drawn: tuple[int, int]
) -> NDArray[np.int64]:
    """The mask on a picture that is drawn in another size; 255 where the model saw nothing."""
    left, top, x, y = find_part(model, size)
    placed = np.full(drawn[::-1], UNSEEN)
    for row in range(drawn[1]):
        for column in range(drawn[0]):
            u = ((column + 0.5) * size[0] / drawn[0] - left) / x
            v = ((row + 0.5) * size[1] / drawn[1] - top) / y
            if 0 <= u < INPUTS[model][0] and 0 <= v < INPUTS[model][1]:
                placed[row, column] = expected.mask[int(v), int(u)]
    return placed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", INPUTS)
def test_the_mask_and_its_areas_are_at_the_pixels_that_the_model_saw(
    segmenting: Server, model: str, size: tuple[int, int]
) -> None:
    image = paint_picture(size)
    expected = place(model, expect_answer(model, image), size, size)
    found = read_palette_png(post(segmenting, "/segment", image, model=model, view="mask").content)
    np.testing.assert_array_equal(found, expected)
    classes = ask(segmenting, "/predict", image, model=model)["classes"]
    assert {each["index"] for each in classes} == {*np.unique(expected).tolist()} - {UNSEEN}
    for each in classes:
        there = expected == each["index"]
        rows, columns = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert (each["pixels"], each["box"]) == (there.sum(), box)
        assert each["share"] == pytest.approx(there.sum() / (expected != UNSEEN).sum())


@pytest.mark.parametrize("longer", [40, 97])
@pytest.mark.parametrize("model", INPUTS)
def test_a_mask_of_another_size_shows_the_classes_at_the_same_places(
    segmenting: Server, model: str, longer: int
) -> None:
    image = paint_picture((60, 44))
    options = {"model": model, "view": "mask", "size": longer}
    found = read_palette_png(post(segmenting, "/segment", image, **options).content)
    drawn = (longer, round(44 * longer / 60))
    expected = place(model, expect_answer(model, image), (60, 44), drawn)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", INPUTS)
def test_a_box_of_the_picture_explains_the_pixels_of_the_input_under_it(
    segmenting: Server, model: str, size: tuple[int, int]
) -> None:
    image = paint_picture(size)
    expected = expect_answer(model, image)
    left, top, x, y = find_part(model, size)
    width, height = INPUTS[model]
    boxes = [
        (size[0] // 4, size[1] // 4, size[0] // 4 + 9, size[1] // 4 + 6),
        (0.3 * size[0], 0.2 * size[1], 0.8 * size[0], 0.9 * size[1]),
    ]
    for box in boxes:
        selected = np.zeros((height, width), bool)
        for row in range(height):
            for column in range(width):
                u, v = left + (column + 0.5) * x, top + (row + 0.5) * y
                selected[row, column] = box[0] <= u < box[2] and box[1] <= v < box[3]
        if not selected.any():
            continue  # smaller than a pixel of the input, or not seen: see below
        given = ",".join(map(str, box))
        for target in (RED, BLUE):
            found = explain(segmenting, image, model=model, box=given, target_index=target)
            there = selected & (expected.mask == target)
            assert found["region"]["pixels"] == there.sum()
            cam = expect_cam(expected, there, target)
            np.testing.assert_allclose(found["cam"], cam, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", INPUTS)
def test_a_point_explains_the_pixel_of_the_mask_that_is_shown_there(
    segmenting: Server, model: str, size: tuple[int, int]
) -> None:
    image = paint_picture(size)
    expected = expect_answer(model, image)
    placed = place(model, expected, size, size)
    left, top, x, y = find_part(model, size)
    for column, row in [(size[0] // 3, size[1] // 3), (size[0] // 2, size[1] - size[1] // 4)]:
        response = post(segmenting, "/gradcam", image, model=model, point=f"{column},{row}")
        if placed[row, column] == UNSEEN:
            assert response.status_code == 400
            message = response.json()["error"]["message"]
            assert f"does not see the point {column},{row}, only the box" in message
            continue
        [found] = response.json()["explanations"]
        selected = np.zeros(expected.mask.shape, bool)
        selected[int((row + 0.5 - top) / y), int((column + 0.5 - left) / x)] = True
        index = int(placed[row, column])
        assert (found["target"]["index"], found["region"]["pixels"]) == (index, 1)
        cam = expect_cam(expected, selected, index)
        np.testing.assert_allclose(found["cam"], cam, atol=1e-3)


@pytest.mark.parametrize("orientation", STORE)
def test_a_turned_picture_has_mask_box_and_point_as_it_is_shown(
    segmenting: Server, orientation: int
) -> None:
    image = paint_picture((64, 40))
    stored = turn(image, orientation)

    def call(path: str, **options: Any) -> Any:
        headers = {} if path == "/segment" else {"accept": "application/json"}
        for content in (encode(image), stored):
            yield segmenting.client.post(path, content=content, params=options, headers=headers)

    for model in INPUTS:
        plain, found = call("/segment", model=model, view="mask")
        np.testing.assert_array_equal(
            read_palette_png(found.content), read_palette_png(plain.content)
        )
        for region in ({"box": "10,8,40,30"}, {"point": "20,12"}):
            plain, found = (
                response.json()["explanations"][0]
                for response in call("/gradcam", model=model, **region)
            )
            assert found["region"] == plain["region"]
            assert found["target"]["label"] == plain["target"]["label"]
            # Width and height are resized in the other order, so a pixel may differ by 1.
            np.testing.assert_allclose(found["cam"], plain["cam"], atol=0.05)


def test_a_box_smaller_than_a_pixel_of_the_input_is_the_pixel_under_its_middle(
    segmenting: Server,
) -> None:
    image = paint_picture((320, 240))  # ten pixels each
    for x, y in ((37, 58), (31, 51), (39, 59)):
        box = f"{x - 1},{y - 1},{x + 1},{y + 1}"
        found = explain(segmenting, image, model="cells", box=box, of="background")
        assert found["region"]["box"] in ([30, 50, 40, 60], [40, 60, 50, 70])
        assert found["region"]["box"][0] == x // 10 * 10


def test_a_box_that_the_model_does_not_see_has_no_pixels(segmenting: Server) -> None:
    image = paint_picture((320, 32))
    found = explain(segmenting, image, model="cropped", box="0,0,20,20", target="red")
    assert found["empty"] is True
    assert found["region"] == {"of": "red", "box": None, "pixels": 0}
