"""Answers of `POST /predict` and `/predict/batch`."""

import base64

import pytest

from tests.contract.conftest import UNICODE
from tests.contract.pictures import cut_short, halve, paint
from tests.server import Server
from tests.service.quadrants_model import LABELS, encode, light

PICTURE = encode(halve(light(2), light(3, level=100)))


def test_the_answer_has_model_version_predictions_and_image_size(server: Server) -> None:
    response = server.client.post("/predict", files={"image": encode(light(1, (48, 40)))})
    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert list(answer) == ["model", "version", "predictions", "image", "warnings"]
    assert (answer["model"], answer["version"]) == ("quadrants", "1")
    assert answer["image"] == {"width": 48, "height": 40}
    assert list(answer["predictions"][0]) == ["label", "index", "probability"]
    assert (answer["predictions"][0]["label"], answer["predictions"][0]["index"]) == (LABELS[1], 1)


def test_predictions_are_sorted_by_logit_and_their_probabilities_sum_to_one(
    server: Server,
) -> None:
    predictions = server.client.post("/predict", content=PICTURE).json()["predictions"]
    assert [p["index"] for p in predictions] == [2, 3, 0, 1]
    probabilities = [p["probability"] for p in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("top_k", "expected"), [("1", 1), ("3", 3), ("0", 20), ("99", 20), (None, 5)]
)
def test_top_k_defaults_to_5_and_0_or_too_many_means_all(
    several: Server, top_k: str | None, expected: int
) -> None:
    options = {"model": "many"} | ({} if top_k is None else {"top_k": top_k})
    predictions = several.client.post("/predict", content=PICTURE, params=options).json()
    assert len(predictions["predictions"]) == expected


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (None, ("alpha", "10")),
        ("alpha", ("alpha", "10")),
        ("alpha/2", ("alpha", "2")),
        ("gray", ("gray", "1")),
    ],
)
def test_the_requested_model_answers_with_its_highest_version_and_without_one_the_default(
    several: Server, requested: str | None, expected: tuple[str, str]
) -> None:
    options = {} if requested is None else {"model": requested}
    answer = several.client.post("/predict", content=PICTURE, params=options).json()
    assert (answer["model"], answer["version"]) == expected
    assert answer["predictions"][0]["index"] == 2


@pytest.mark.parametrize("requested", ["beta", "alpha/3", "alpha/02", "", "../alpha"])
def test_an_unknown_model_is_rejected_and_the_available_ones_are_listed(
    several: Server, requested: str
) -> None:
    response = several.client.post("/predict", content=PICTURE, params={"model": requested})
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "model_not_found"
    assert "alpha, gray, labels, many" in error["message"]


def test_labels_may_be_any_text(several: Server) -> None:
    answer = several.client.post("/predict", content=PICTURE, params={"model": "labels"}).json()
    assert {p["label"] for p in answer["predictions"]} == set(UNICODE)


def test_a_batch_answers_each_image_in_the_sent_order(server: Server) -> None:
    files = [("image", encode(light(quarter))) for quarter in (3, 0, 2, 1)]
    answer = server.client.post("/predict/batch", files=files, data={"top_k": "1"}).json()
    assert list(answer) == ["model", "version", "results"]
    assert [r["predictions"][0]["index"] for r in answer["results"]] == [3, 0, 2, 1]
    singles = [
        server.client.post("/predict", files=[file], data={"top_k": "1"}).json() for file in files
    ]
    for single, result in zip(singles, answer["results"], strict=True):
        assert single == {"model": "quadrants", "version": "1"} | result


def test_only_the_invalid_image_of_a_batch_fails(server: Server) -> None:
    good = base64.b64encode(PICTURE).decode()
    cut = base64.b64encode(cut_short(encode(light(0, (200, 200)), "JPEG"))).decode()
    text = base64.b64encode(b"not a picture").decode()
    images = [good, cut, good, "###", text, "", 7, good]
    answer = server.client.post("/predict/batch", json={"images": images}).json()
    codes = [result.get("error", {}).get("code") for result in answer["results"]]
    bad, broken, other = "bad_request", "invalid_image", "unsupported_media_type"
    assert codes == [None, broken, None, bad, other, bad, bad, None]
    assert len({str(r["predictions"]) for r in answer["results"] if "error" not in r}) == 1


def test_a_batch_accepts_1_to_64_images(server: Server) -> None:
    image = base64.b64encode(encode(paint())).decode()
    for count, status in ((0, 400), (1, 200), (64, 200), (65, 400)):
        response = server.client.post("/predict/batch", json={"images": [image] * count})
        assert response.status_code == status
    assert "64" in response.json()["error"]["message"]


@pytest.mark.parametrize("call", ["/predict", "/gradcam"])
def test_only_the_batch_call_accepts_a_list_of_images(server: Server, call: str) -> None:
    response = server.client.post(call, json={"images": [base64.b64encode(PICTURE).decode()]})
    assert response.status_code == 400
    assert "/batch" in response.json()["error"]["message"]


def test_gray_input_weights_the_colours(several: Server) -> None:
    reddish = encode(halve(light(1), paint((255, 0, 0))))
    answer = several.client.post("/predict", content=reddish, params={"model": "gray"}).json()
    shares = {p["index"]: p["probability"] for p in answer["predictions"]}
    assert shares[1] == pytest.approx(shares[3], rel=1e-3)
    assert shares[1] > shares[0]
