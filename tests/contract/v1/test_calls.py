"""KServe's V1 protocol gives the answers of the calls with several images."""

import base64
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.contract.tree import PICTURE
from tests.server import Server

INSTANCE = {"image": {"b64": base64.b64encode(PICTURE).decode()}}
MODEL = "/v1/models/quadrants"


def ask(server: Server, verb: str, body: object) -> Any:
    answer = server.client.post(f"{MODEL}:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_predictions_are_those_of_a_batch(server: Server) -> None:
    files = [("image", PICTURE)] * 2
    batch = server.client.post("/predict/batch", files=files, data={"top_k": 2}).json()
    found = ask(server, "predict", {"instances": [INSTANCE] * 2, "top_k": 2})
    assert found == {"predictions": batch["results"]}
    assert len(found["predictions"][0]["predictions"]) == 2


def test_explanations_are_those_of_a_batch(server: Server) -> None:
    data = {"target_top": 2}
    batch = server.client.post("/gradcam/batch", files=[("image", PICTURE)], data=data).json()
    found = ask(server, "explain", {"instances": [INSTANCE], "target_top": 2})
    assert found == {"explanations": batch["results"]}
    assert len(found["explanations"][0]["explanations"]) == 2


@pytest.mark.parametrize(
    "instance",
    [
        {"image": {"b64": "no base64!"}},
        {"image": {"b64": 3}},
        {"image": {"b64": INSTANCE["image"]["b64"], "size": 1}},
        {"image": INSTANCE["image"]["b64"]},
        {"picture": INSTANCE["image"]},
        [1, 2],
    ],
)
def test_an_instance_that_cannot_be_read_does_not_fail_the_others(
    server: Server, instance: object
) -> None:
    first, second = ask(server, "predict", {"instances": [instance, INSTANCE]})["predictions"]
    assert first["error"]["code"] == "bad_request"
    assert second["predictions"]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        (f"{MODEL}:predict", {}, 400, "'instances' must be a list of 1 to 64 images"),
        (f"{MODEL}:predict", {"instances": []}, 400, "a list of 1 to 64 images"),
        (f"{MODEL}:predict", {"instances": [INSTANCE] * 65}, 400, "a list of 1 to 64 images"),
        (f"{MODEL}:predict", {"instances": [INSTANCE], "model": "x"}, 400, "The path names"),
        (f"{MODEL}:predict", {"instances": [INSTANCE], "size": 9}, 400, "no parameter 'size'"),
        (f"{MODEL}:explain", {"instances": [INSTANCE], "target": "x"}, 422, "no label 'x'"),
        ("/v1/models/none:predict", {"instances": [INSTANCE]}, 404, "There is no model 'none'"),
        (f"{MODEL}:train", {"instances": [INSTANCE]}, 405, "POST is not allowed"),
    ],
)
def test_an_error_is_one_sentence(
    server: Server, path: str, body: object, status: int, sentence: str
) -> None:
    answer = server.client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert sentence in answer.json()["error"]


def test_models_are_listed_and_say_whether_they_are_ready(server: Server) -> None:
    assert server.client.get("/v1/models").json() == {"models": ["quadrants"]}
    assert server.client.get(MODEL).json() == {"name": "quadrants", "ready": True}
    unknown = server.client.get("/v1/models/none")
    assert unknown.status_code == 404
    assert "There is no model 'none'" in unknown.json()["error"]


def test_every_answer_matches_its_schema(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    operations = [
        (path.replace("{name}", "quadrants"), method, operation)
        for path, methods in document["paths"].items()
        if path.startswith("/v1/")
        for method, operation in methods.items()
    ]
    assert len(operations) == 4
    for path, method, operation in operations:
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        answer = server.client.request(method, path, json=body.get("example"))
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(
            answer.json()
        )
