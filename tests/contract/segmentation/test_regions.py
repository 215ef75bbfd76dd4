"""`/gradcam` of a model that segments: which pixels are explained, and by which map."""

from typing import Any

import numpy as np
import pytest

from tests.contract.pictures import read
from tests.contract.segmentation.requests import ask, expect, explain, post, refuse, select
from tests.server import Server
from tests.service.mask_model import BACKGROUND, BLUE, LABELS, RED, expect_cam, paint

PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))
EXPECTED = expect(PICTURE)
BOX = (2, 6, 22, 14)


def check_cam(explanation: dict[str, Any], selected: Any, target: int) -> None:
    expected = expect_cam(EXPECTED, selected, target)
    np.testing.assert_allclose(explanation["cam"], expected, atol=1e-4)
    assert explanation["shape"] == list(expected.shape)
    assert explanation["region"]["pixels"] == selected.sum()


@pytest.mark.parametrize("target", LABELS)
def test_without_a_region_the_pixels_of_the_target_are_explained(
    segmenting: Server, target: str
) -> None:
    explanation = explain(segmenting, PICTURE, target=target)
    index = LABELS.index(target)
    there = EXPECTED.mask == index
    check_cam(explanation, there, index)
    assert explanation["region"] == {"of": target, "box": [0, 0, 32, 24], "pixels": there.sum()}
    assert explanation["target"]["label"] == target
    mean = EXPECTED.probabilities[index][there].mean()
    assert explanation["target"]["probability"] == pytest.approx(mean, abs=1e-5)
    assert explanation["method"] == "seg-hirescam"
    assert explanation["layer"] == "cells"


def test_the_default_target_is_the_largest_class_that_is_not_the_background(
    segmenting: Server,
) -> None:
    assert explain(segmenting, PICTURE)["target"]["label"] == "blue"
    empty = explain(segmenting, paint(size=(32, 24)))
    assert empty["target"]["label"] == "background"


def test_a_box_explains_the_pixels_of_the_target_in_it(segmenting: Server) -> None:
    box = ",".join(map(str, BOX))
    default = explain(segmenting, PICTURE, box=box)
    assert default["target"]["label"] == "red"  # the largest there
    check_cam(default, select(BOX) & (EXPECTED.mask == RED), RED)
    assert default["region"]["box"] == [*BOX]
    other = explain(segmenting, PICTURE, box=box, target="blue")
    check_cam(other, select(BOX) & (EXPECTED.mask == BLUE), BLUE)


def test_of_chooses_the_class_of_the_pixels_and_is_the_default_target(segmenting: Server) -> None:
    box = ",".join(map(str, BOX))
    for options, target in (({}, BLUE), ({"target": "red"}, RED)):
        explanation = explain(segmenting, PICTURE, box=box, of="blue", **options)
        check_cam(explanation, select(BOX) & (EXPECTED.mask == BLUE), target)
        assert explanation["target"]["label"] == LABELS[target]
        assert explanation["region"]["of"] == "blue"


@pytest.mark.parametrize(("x", "y", "label"), [(5, 5, RED), (25, 20, BLUE), (0, 0, BACKGROUND)])
def test_a_point_is_one_pixel_and_its_class_is_the_default_target(
    segmenting: Server, x: int, y: int, label: int
) -> None:
    explanation = explain(segmenting, PICTURE, point=f"{x},{y}")
    assert explanation["target"]["label"] == LABELS[label]
    check_cam(explanation, select((x, y, x + 1, y + 1)), label)
    assert explanation["region"] == {"of": None, "box": [x, y, x + 1, y + 1], "pixels": 1}
    other = explain(segmenting, PICTURE, point=f"{x},{y}", target_index=RED)
    check_cam(other, select((x, y, x + 1, y + 1)), RED)


@pytest.mark.parametrize("options", [{}, {"target": "red"}, {"box": "2,6,22,14"}, {"of": "red"}])
def test_against_is_the_difference_of_two_maps_for_the_same_pixels(
    segmenting: Server, options: dict[str, str]
) -> None:
    explanation = explain(segmenting, PICTURE, against="background", **options)
    target = explanation["target"]["index"]
    selected = EXPECTED.mask == target
    if "box" in options:
        selected = selected & select(BOX)
    difference = expect_cam(EXPECTED, selected, target) - expect_cam(EXPECTED, selected, 0)
    np.testing.assert_allclose(explanation["cam"], difference, atol=1e-4)
    assert explanation["against"]["label"] == "background"
    mean = EXPECTED.probabilities[0][selected].mean()
    assert explanation["against"]["probability"] == pytest.approx(mean, abs=1e-5)


def test_several_targets_are_explained_in_order_and_target_top_takes_the_largest(
    segmenting: Server,
) -> None:
    answer = ask(segmenting, "/gradcam", PICTURE, target=["red", "background", "red"])
    assert [each["target"]["index"] for each in answer["explanations"]] == [RED, 0, RED]
    for each in answer["explanations"]:
        index = each["target"]["index"]
        check_cam(each, EXPECTED.mask == index, index)
    top = ask(segmenting, "/gradcam", PICTURE, target_top=8, against="red")["explanations"]
    assert [each["target"]["label"] for each in top] == ["blue", "red", "background"]
    in_box = ask(segmenting, "/gradcam", PICTURE, target_top=1, box="2,6,22,14")["explanations"]
    assert [each["target"]["label"] for each in in_box] == ["red"]


def test_a_region_without_pixels_is_empty_and_the_picture_is_plain(segmenting: Server) -> None:
    options: dict[str, Any] = {"target": "red", "box": "0,0,3,3"}
    explanation = explain(segmenting, PICTURE, verify="true", **options)
    assert explanation["empty"] is True
    assert explanation["region"]["pixels"] == 0
    assert (explanation["box"], explanation["target"]["probability"]) == (None, None)
    assert set(explanation["verification"].values()) == {None}
    drawn = post(segmenting, "/gradcam", PICTURE, headers={}, size=0, **options)
    assert (read(drawn.content) == np.asarray(PICTURE)).all()
    assert "x-target-probability" not in drawn.headers


def test_a_picture_of_the_map_has_the_headers_of_the_region(segmenting: Server) -> None:
    response = post(segmenting, "/gradcam", PICTURE, headers={}, box="2,6,22,14", view="signed")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-predicted-label"] == "blue"
    assert response.headers["x-target-label"] == "red"
    selected = select(BOX) & (EXPECTED.mask == RED)
    mean = EXPECTED.probabilities[RED][selected].mean()
    assert float(response.headers["x-target-probability"]) == pytest.approx(mean, rel=1e-4)
    answer = ask(segmenting, "/gradcam", PICTURE, box="2,6,22,14", view="overlay")
    assert answer["explanations"][0]["picture"]


def test_verify_measures_the_same_pixels_with_parts_of_the_picture_blurred(
    segmenting: Server,
) -> None:
    found = explain(segmenting, PICTURE, target="red", verify="true")["verification"]
    there = EXPECTED.mask == RED
    mean = EXPECTED.probabilities[RED][there].mean()
    assert found["probability"] == pytest.approx(mean, abs=1e-5)
    assert found["hot_blurred"] < found["cold_blurred"]
    assert found["cold_blurred"] == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"box": "1,2,3"}, 400, "'box' must be 4 numbers as in"),
        ({"box": "1,2,3,nan"}, 400, "'box' must be 4 numbers as in"),
        ({"box": ["1,2,3,4", "1,2,3,4"]}, 400, "'box' must be 4 numbers as in"),
        ({"box": "9,2,3,4"}, 400, "'box' must be left,top,right,bottom with left < right"),
        ({"point": "1"}, 400, "'point' must be 2 numbers as in"),
        ({"point": "1,1", "box": "1,1,2,2"}, 400, "give only one of 'box' and 'point'"),
        ({"point": "32,5"}, 400, "The point lies outside the picture, which has 32 x 24 pixels"),
        ({"point": "-1,5"}, 400, "The point lies outside the picture"),
        ({"box": "40,1,50,9"}, 400, "The box lies outside the picture"),
        ({"of": "rde"}, 422, "did you mean one of: red"),
        ({"target": "green"}, 422, "has no label 'green'"),
        ({"target_index": 3}, 422, "has no label with index 3"),
        ({"against": "green"}, 422, "has no label 'green'"),
    ],
)
def test_a_wrong_region_or_label_is_refused_by_name(
    segmenting: Server, options: dict[str, Any], status: int, message: str
) -> None:
    found, sentence = refuse(segmenting, "/gradcam", PICTURE, **options)
    assert (found, message in sentence) == (status, True), sentence


def test_in_json_a_box_may_be_a_list(segmenting: Server) -> None:
    import base64

    from tests.service.quadrants_model import encode

    image = base64.b64encode(encode(PICTURE)).decode()
    box: Any
    for box in ([*BOX], "2,6,22,14", [2.0, 6, 22, 14]):
        answer = segmenting.client.post(
            "/gradcam", json={"image": image, "box": box}, headers={"accept": "application/json"}
        ).json()
        assert answer["explanations"][0]["region"]["box"] == [*BOX]
    for box in ([True, 6, 22, 14], ["2", "6", "22", "14"], [2, 6, 22]):
        refused = segmenting.client.post("/gradcam", json={"image": image, "box": box})
        assert refused.status_code == 400


def test_a_region_outside_one_picture_of_a_batch_is_an_error_of_that_picture(
    segmenting: Server,
) -> None:
    from tests.service.quadrants_model import encode

    files = [("image", encode(PICTURE)), ("image", encode(paint(size=(8, 8))))]
    call = segmenting.client.post("/gradcam/batch", files=files, data={"point": "20,20"})
    first, second = call.json()["results"]
    assert first["explanations"][0]["region"]["pixels"] == 1
    assert second["error"]["code"] == "bad_request"
