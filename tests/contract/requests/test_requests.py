"""How a request is written: where the image and the parameters are, and the `Accept` header."""

import base64
import json
from typing import Any

import pytest

from tests.server import Server
from tests.service.quadrants_model import encode, light

CALLS = ("/predict", "/gradcam", "/predict/batch", "/gradcam/batch")
JSON = {"accept": "application/json"}
PICTURE = encode(light(2))
TEXT = base64.b64encode(PICTURE).decode()


def ask(server: Server, call: str, **how: Any) -> dict[str, Any]:
    """Return the JSON of an answer with status 200."""
    headers = JSON | how.pop("headers", {})
    response = server.client.post(call, headers=headers, **how)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def read_rejection(server: Server, call: str, **how: Any) -> str:
    """Return the sentence of an answer with status 400."""
    headers = JSON | how.pop("headers", {})
    response = server.client.post(call, headers=headers, **how)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["code"] == "bad_request"
    return str(error["message"])


@pytest.mark.parametrize("call", CALLS)
def test_an_image_is_accepted_as_form_field_as_json_or_raw(server: Server, call: str) -> None:
    as_field = ask(server, call, files={"image": PICTURE}, data={"top_k": "2"})
    as_json = ask(
        server,
        call,
        json={"images": [TEXT]} if "batch" in call else {"image": TEXT},
        params={"top_k": 2},
    )
    as_raw = ask(server, call, content=PICTURE, params={"top_k": 2})
    assert as_field == as_json == as_raw
    result = as_field["results"][0] if "batch" in call else as_field
    assert [p["label"] for p in result["predictions"]] == ["bottom left", "top left"]


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/octet-stream"},
        {"content-type": "image/jpeg"},
        {"content-type": "text/plain; charset=utf-8"},
        {"content-type": "no type at all"},
    ],
)
def test_a_raw_body_is_an_image_for_any_declared_type(
    server: Server, declared: dict[str, str]
) -> None:
    answer = ask(server, "/predict", content=PICTURE, headers=declared)
    assert answer["predictions"][0]["label"] == "bottom left"


def test_the_bytes_decide_the_format_not_the_field_name_or_type(server: Server) -> None:
    lying = ask(server, "/predict", files={"image": ("cat.txt", PICTURE, "text/html")})
    assert lying == ask(server, "/predict", files={"image": PICTURE})


def test_media_types_are_case_insensitive(server: Server) -> None:
    body = json.dumps({"image": TEXT})
    answer = ask(server, "/predict", content=body, headers={"content-type": "Application/JSON"})
    assert answer["predictions"][0]["label"] == "bottom left"


@pytest.mark.parametrize("call", CALLS)
def test_parameters_are_accepted_as_form_fields_query_or_json_keys(
    server: Server, call: str
) -> None:
    options: dict[str, Any] = {"top_k": 1, "model": "quadrants/1"}
    if "gradcam" in call:
        options |= {"target": "top left", "against": "top right", "view": "signed", "size": 0}
    image = {"images": [TEXT]} if "batch" in call else {"image": TEXT}
    in_form = ask(server, call, files={"image": PICTURE}, data=options)
    in_query = ask(server, call, content=PICTURE, params=options)
    in_json = ask(server, call, json=image | options)
    assert in_form == in_query == in_json


def test_json_accepts_numbers_as_text_and_null_as_absent(server: Server) -> None:
    answer = ask(server, "/predict", json={"image": TEXT, "top_k": "1", "model": None})
    assert answer == ask(server, "/predict", json={"image": TEXT, "top_k": 1})


@pytest.mark.parametrize(
    "how",
    [
        {"files": {"image": PICTURE}, "data": {"top_k": ["1", "2"]}},
        {"content": PICTURE, "params": [("top_k", "1"), ("top_k", "1")]},
        {"files": {"image": PICTURE}, "data": {"top_k": "1"}, "params": {"top_k": "1"}},
        {"json": {"image": TEXT, "top_k": 1}, "params": {"top_k": "1"}},
        {"json": {"image": TEXT, "top_k": [1, 1]}},
        {
            "content": f'{{"image": "{TEXT}", "top_k": 1, "top_k": 1}}',
            "headers": {"content-type": "application/json"},
        },
    ],
    ids=["form", "query", "form and query", "json and query", "json list", "json keys"],
)
def test_a_parameter_given_twice_is_rejected(server: Server, how: dict[str, Any]) -> None:
    assert "'top_k'" in read_rejection(server, "/predict", **how)


def test_an_image_given_twice_is_rejected(server: Server) -> None:
    twice = [("image", PICTURE), ("image", PICTURE)]
    assert "/batch" in read_rejection(server, "/predict", files=twice)
    body = f'{{"image": "{TEXT}", "image": "{TEXT}"}}'
    assert read_rejection(
        server, "/predict", content=body, headers={"content-type": "application/json"}
    )


@pytest.mark.parametrize("call", CALLS)
def test_an_unknown_parameter_is_rejected_and_the_known_ones_listed(
    server: Server, call: str
) -> None:
    message = read_rejection(server, call, content=PICTURE, params={"topk": "1"})
    assert "'topk'" in message
    assert "top_k" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", "-1"),
        ("top_k", "1.5"),
        ("top_k", "many"),
        ("top_k", ""),
        ("alpha", "-0.1"),
        ("alpha", "1.1"),
        ("alpha", "nan"),
        ("alpha", "inf"),
        ("box_threshold", "0.04"),
        ("box_threshold", "0.96"),
        ("box_threshold", "nan"),
        ("box_threshold", "half"),
        ("box_threshold", ""),
        ("colormap", "jet"),
        ("view", "side"),
        ("size", "15"),
        ("size", "4097"),
        ("size", "-1"),
        ("target_index", "-1"),
        ("target_top", "0"),
        ("target_top", "9"),
        ("against_index", "first"),
    ],
)
def test_a_parameter_out_of_range_is_rejected_by_name(
    server: Server, name: str, value: str
) -> None:
    assert name in read_rejection(server, "/gradcam", content=PICTURE, params={name: value})


@pytest.mark.parametrize(
    "names",
    [
        {"target": "top left", "target_index": "0"},
        {"target": "top left", "target_top": "1"},
        {"target_index": "0", "target_top": "1"},
        {"against": "top left", "against_index": "0"},
    ],
)
def test_two_parameters_with_the_same_meaning_are_rejected(
    server: Server, names: dict[str, str]
) -> None:
    message = read_rejection(server, "/gradcam", content=PICTURE, params=names)
    assert all(name in message for name in names)


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("application/json", b"", "empty"),
        ("multipart/form-data; boundary=x", b"", "empty"),
        ("image/png", b"", "empty"),
        ("application/json", b'{"image": ', "JSON"),
        ("application/json", b"\xff\xfe", "JSON"),
        ("application/json", b"[" * 60_000, "JSON"),
        ("application/json", b'["image"]', "JSON object"),
        ("application/json", b'{"top_k": 1}', "no image"),
        ("application/json", b'{"image": 7}', "base64"),
        ("application/json", b'{"image": "data:image/png,AAAA"}', "data:image/png;base64,"),
        ("application/json", b'{"image": ""}', "base64"),
        ("application/json", b'{"images": "AAAA"}', "list"),
        ("application/json", b'{"image": "AAAA", "\\ud800": 1}', "no parameter"),
        ("application/json", b'{"image": "AAAA", "view": "\\ud800"}', "view"),
        ("multipart/form-data", PICTURE, "boundary"),
        ("multipart/form-data; boundary=x", PICTURE, "multipart"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\n' + PICTURE,
            "multipart",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="top_k"\r\n\r\n1\r\n--x--\r\n',
            "no image",
        ),
    ],
)
def test_a_malformed_body_is_rejected_with_the_reason(
    server: Server, content_type: str, body: bytes, reason: str
) -> None:
    message = read_rejection(
        server, "/predict", content=body, headers={"content-type": content_type}
    )
    assert reason in message


def test_a_lone_surrogate_in_json_is_repeated_in_the_error_as_sent(server: Server) -> None:
    body = b'{"image": "AAAA", "model": "\\ud800"}'
    response = server.client.post(
        "/predict", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 404
    assert r"There is no model '\ud800'" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/webp", "image/webp"),
        ("IMAGE/WEBP", "image/webp"),
        ("application/json", "application/json"),
        ("text/html, application/json", "application/json"),
        ("image/png;q=0.2, image/jpeg;q=0.8, image/webp;q=0.5", "image/jpeg"),
        ("image/*;q=0.3, application/json;q=0.9", "application/json"),
        ("image/avif,image/webp,image/*;q=0.8,*/*;q=0.5", "image/webp"),
        ("image/png;q=0, image/*", "image/jpeg"),
        ("*/*;q=0.1, image/png;q=0, image/jpeg;q=0", "image/webp"),
    ],
)
def test_the_explanation_has_the_media_type_that_accept_prefers(
    server: Server, accept: str, media_type: str
) -> None:
    response = server.client.post("/gradcam", content=PICTURE, headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["vary"] == "Accept"


def test_several_accept_headers_are_combined(server: Server) -> None:
    accepts = [("accept", "image/webp"), ("accept", "text/html")]
    response = server.client.post("/gradcam", content=PICTURE, headers=accepts)
    assert response.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    ("call", "accept"),
    [
        ("/predict", "image/png"),
        ("/predict", "application/json;q=0"),
        ("/predict/batch", "text/html"),
        ("/gradcam", "text/html"),
        ("/gradcam", "video/*"),
        ("/gradcam/batch", "image/png"),
    ],
)
def test_an_accept_header_without_a_supported_type_is_not_acceptable(
    server: Server, call: str, accept: str
) -> None:
    response = server.client.post(call, content=PICTURE, headers={"accept": accept})
    assert response.status_code == 406
    assert response.json()["error"]["code"] == "not_acceptable"
    assert "application/json" in response.json()["error"]["message"]
