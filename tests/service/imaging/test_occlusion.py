"""Verification blurs the hottest and the coldest part and runs the model again."""

import json

import numpy as np
import pytest

from service.imaging.occlusion import blur_hottest_and_coldest
from tests.server import Server
from tests.service.quadrants_model import encode, light

JSON = {"accept": "application/json"}


def test_the_hottest_fifth_and_an_equal_area_of_the_coldest_are_blurred() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    cam = np.linspace(-0.1, 1, 16, dtype=np.float32).reshape(4, 4)
    inputs = blur_hottest_and_coldest(pixels, cam)
    hot, cold = ((blurred != pixels).any(axis=-1) for blurred in inputs)
    assert hot.mean() == pytest.approx(0.2, abs=0.02)
    assert cold.mean() == pytest.approx(hot.mean(), abs=0.01)
    assert hot[-1, -1]
    assert not (hot & cold).any()


def test_pixels_without_heat_are_never_among_the_hottest() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 1), np.uint8)
    cam = np.zeros((40, 40), np.float32)
    cam[3, 5] = 1
    inputs = blur_hottest_and_coldest(pixels, cam)
    hot, _ = ((blurred != pixels).any(axis=-1) for blurred in inputs)
    assert {(3, 5)} >= set(zip(*np.nonzero(hot), strict=True))


def test_blurring_the_hottest_part_lowers_the_probability_more_than_the_coldest(
    server: Server,
) -> None:
    answer = server.client.post(
        "/gradcam", params={"verify": True}, content=encode(light(1, level=90)), headers=JSON
    ).json()
    [explanation] = answer["explanations"]
    verification = explanation["verification"]
    assert verification["probability"] == explanation["target"]["probability"]
    assert verification["hot_blurred"] < verification["probability"]
    assert verification["hot_blurred"] < verification["cold_blurred"]


def test_every_target_gets_its_own_verification(server: Server) -> None:
    answer = server.client.post(
        "/gradcam", params={"verify": True, "target_top": 3}, content=encode(light(1)), headers=JSON
    ).json()
    found = [explanation["verification"]["probability"] for explanation in answer["explanations"]]
    assert found == [explanation["target"]["probability"] for explanation in answer["explanations"]]


def test_an_empty_map_has_no_blurred_probabilities(server: Server) -> None:
    content = encode(light(0, level=0))
    answer = server.client.post("/gradcam", params={"verify": True}, content=content, headers=JSON)
    [explanation] = answer.json()["explanations"]
    assert explanation["empty"]
    probability = explanation["target"]["probability"]
    assert explanation["verification"] == {
        "probability": probability,
        "hot_blurred": None,
        "cold_blurred": None,
    }


def test_a_picture_carries_its_verification_in_a_header(server: Server) -> None:
    content = encode(light(1, level=90))
    picture = server.client.post("/gradcam", params={"verify": "true"}, content=content)
    answer = server.client.post("/gradcam", params={"verify": True}, content=content, headers=JSON)
    expected = answer.json()["explanations"][0]["verification"]
    assert json.loads(picture.headers["x-verification"]) == pytest.approx(expected, rel=1e-5)


def test_nothing_is_verified_unless_asked_for(server: Server) -> None:
    answer = server.client.post("/gradcam", content=encode(light(1)), headers=JSON).json()
    assert "verification" not in answer["explanations"][0]
