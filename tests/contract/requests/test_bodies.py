"""How clients send pictures: field names, forms of base64, compressed bodies."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.http.json_body import MAX_REST_BYTES
from service.http.multipart_body import MAX_PARTS
from service.http.negotiation import MAX_CHARACTERS
from service.http.request import MAX_PARAMETERS
from tests.contract.tree import PICTURE
from tests.server import Server

TEXT = base64.b64encode(PICTURE).decode()
JSON = {"content-type": "application/json"}
INFER = "/v2/models/quadrants/infer"
CALLS = ("/predict", "/gradcam", "/predict/batch", "/gradcam/batch")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
WRITTEN = {
    "lines of 76": "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
    "no padding": TEXT.rstrip("="),
    "URL alphabet": base64.urlsafe_b64encode(PICTURE).decode(),
    "prefix": "data:image/png;base64," + TEXT,
}


def read_label(response: httpx.Response) -> str:
    """Return the most probable label of one picture, or of the first one."""
    assert response.status_code == 200, response.text
    answer = response.json()
    result = answer["results"][0] if "results" in answer else answer
    return str(result["predictions"][0]["label"])


def read_sentence(response: httpx.Response, status: int = 400) -> str:
    """Return the sentence of an error."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    sentence = error if isinstance(error, str) else error["message"]
    assert len(sentence) < 500
    return str(sentence)


@pytest.mark.parametrize("call", CALLS)
def test_the_picture_may_be_called_file(server: Server, call: str) -> None:
    headers = {"accept": "application/json"}
    expected = server.client.post(call, files={"image": PICTURE}, headers=headers)
    response = server.client.post(call, files={"file": PICTURE}, headers=headers)
    assert read_label(response) == read_label(expected)


def test_several_pictures_may_be_called_file(server: Server) -> None:
    response = server.client.post("/predict/batch", files=[("file", PICTURE)] * 3)
    assert len(response.json()["results"]) == 3


@pytest.mark.parametrize("call", CALLS)
def test_pictures_under_both_names_are_rejected(server: Server, call: str) -> None:
    both = [("image", PICTURE), ("file", PICTURE)]
    assert "use 'image' alone" in read_sentence(server.client.post(call, files=both))


@pytest.mark.parametrize("name", ["Image", "images", "picture", "top_k"])
@pytest.mark.parametrize("content", [PICTURE, b"text"])
def test_a_file_under_another_name_is_rejected(server: Server, name: str, content: bytes) -> None:
    for call in ("/predict", "/predict/batch"):
        sentence = read_sentence(server.client.post(call, files={name: content}))
        assert f"'{name}'" in sentence
        assert "the picture's field is 'image'" in sentence


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_base64_is_accepted_as_clients_write_it(server: Server, text: str) -> None:
    expected = read_label(server.client.post("/predict", content=PICTURE))
    assert read_label(server.client.post("/predict", json={"image": text})) == expected
    batch = server.client.post("/predict/batch", json={"images": [text, TEXT]})
    assert read_label(batch) == expected
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    assert server.client.post(INFER, json={"inputs": [tensor]}).status_code == 200


def test_line_breaks_need_no_escape(server: Server) -> None:
    body = f'{{"image": "{WRITTEN["lines of 76"]}"}}'
    assert read_label(server.client.post("/predict", content=body, headers=JSON))


@pytest.mark.parametrize("call", ["/predict", "/predict/batch"])
def test_a_long_json_body_is_read_like_a_short_one(server: Server, call: str) -> None:
    text = base64.b64encode(PICTURE + bytes(400_000)).decode().replace("+", "\\u002b")
    image = f'"images": ["{text}"]' if "batch" in call else f'"image": "{text}"'
    body = f'{{"top_k": 2, {image}, "model": "quadrants"}}'
    response = server.client.post(call, content=body, headers=JSON)
    assert read_label(response) == read_label(server.client.post(call, content=PICTURE))


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("call", CALLS)
def test_a_compressed_body_is_unpacked(server: Server, call: str, encoding: str) -> None:
    how = {"accept": "application/json", "content-encoding": encoding}
    expected = read_label(server.client.post("/predict", content=PICTURE))
    image: dict[str, Any] = {"images": [TEXT]} if "batch" in call else {"image": TEXT}
    form = httpx.Request("POST", server.url, files={"image": PICTURE})
    for content_type, body in (
        ("image/png", PICTURE),
        ("application/json", json.dumps(image).encode()),
        (form.headers["content-type"], form.read()),
        ("image/png", PICTURE + bytes(500_000)),
    ):
        headers = how | {"content-type": content_type}
        packed = COMPRESS[encoding](body)
        assert read_label(server.client.post(call, content=packed, headers=headers)) == expected


@pytest.mark.parametrize("call", [*CALLS, INFER])
def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(server: Server, call: str) -> None:
    packed = gzip.compress(bytes(70_000_000), 1)
    response = server.client.post(call, content=packed, headers={"content-encoding": "gzip"})
    assert "is longer than" in read_sentence(response, 413)


@pytest.mark.parametrize(
    ("encoding", "status"), [("br", 415), ("gzip, gzip", 415), ("x" * 9999, 415), ("gzip", 400)]
)
def test_other_encodings_are_rejected(server: Server, encoding: str, status: int) -> None:
    response = server.client.post(
        "/predict", content=PICTURE, headers={"content-encoding": encoding}
    )
    assert "gzip" in read_sentence(response, status)


def test_the_identity_encoding_and_none_are_accepted(server: Server) -> None:
    for encoding in ("identity", "", "GZIP"):
        body = gzip.compress(PICTURE) if encoding == "GZIP" else PICTURE
        headers = {"content-encoding": encoding}
        assert read_label(server.client.post("/predict", content=body, headers=headers))


LONG = "x" * 50_000
EXCESSIVE: list[tuple[str, dict[str, Any], int]] = [
    ("/predict", {"json": {"image": TEXT, LONG: 1}}, 400),
    ("/predict", {"json": {"image": TEXT, "model": LONG}}, 404),
    ("/predict", {"json": {"image": TEXT, "top_k": LONG}}, 400),
    ("/predict", {"json": {"image": "*" + LONG}}, 400),
    ("/gradcam", {"json": {"image": TEXT, "target": LONG}}, 422),
    ("/gradcam", {"json": {"image": TEXT, "target": LONG * 20}}, 400),
    ("/gradcam", {"json": {"image": TEXT, "target": [LONG] * 9}}, 400),
    ("/gradcam", {"json": {"image": TEXT, "target": [0] * (MAX_PARTS + 1)}}, 400),
    ("/gradcam", {"json": {"image": TEXT, "target": ["x"] * 9}}, 400),
    ("/gradcam", {"json": {"image": TEXT, "target": [0] * MAX_REST_BYTES}}, 413),
    ("/gradcam", {"json": {"image": TEXT, "target_index": int("9" * 4000)}}, 422),
    ("/gradcam", {"json": {"image": TEXT, "against_index": int("9" * 4000)}}, 422),
    ("/gradcam?target_index=" + "9" * 4000, {"content": PICTURE}, 422),
    ("/gradcam?top_k=-" + "9" * 4000, {"content": PICTURE}, 400),
    ("/predict/batch", {"json": {"images": [0] * (MAX_PARTS + 1)}}, 400),
    ("/predict", {"files": {"image": PICTURE}, "data": {LONG[:4000]: "1"}}, 400),
    ("/predict", {"files": {"image": PICTURE}, "data": {"model": LONG}}, 404),
    (f"/predict?{LONG}=1", {"content": PICTURE}, 400),
    (f"/predict?top_k={LONG}", {"content": PICTURE}, 400),
    (f"/predict?{'a=1&' * MAX_PARAMETERS}", {"content": PICTURE}, 400),
    ("/predict", {"content": PICTURE, "headers": {"accept": "a," * MAX_CHARACTERS}}, 400),
    ("/predict", {"content": PICTURE, "headers": {"accept": "a" * MAX_CHARACTERS}}, 406),
    ("/predict", {"content": PICTURE, "headers": {"accept": "*/*;q=" + LONG[:2000]}}, 400),
    ("/predict", {"content": PICTURE, "headers": {"content-type": LONG}}, 400),
    ("/" + LONG, {"content": PICTURE}, 404),
    ("/models/" + LONG, {"content": PICTURE}, 404),
    ("/models/" + LONG[:1000], {"content": PICTURE}, 405),
    (f"/v2/models/{LONG[:1000]}/infer", {"content": PICTURE}, 404),
    (f"/v2/models/{LONG}/infer", {"content": PICTURE}, 404),
    (INFER, {"json": {"inputs": [{"name": LONG, "datatype": "BYTES", "shape": [1]}]}}, 400),
    (INFER, {"content": b"{}", "headers": {"inference-header-content-length": LONG}}, 400),
]


@pytest.mark.parametrize(("path", "how", "status"), EXCESSIVE, ids=range(len(EXCESSIVE)))
def test_only_an_excerpt_of_what_was_sent_is_repeated(
    server: Server, path: str, how: dict[str, Any], status: int
) -> None:
    read_sentence(server.client.post(path, **how), status)


def test_a_name_with_half_a_surrogate_pair_is_unknown(server: Server) -> None:
    body = b'{"image": "AAAA", "\\ud800": 1}'
    for call in CALLS[:2]:
        sentence = read_sentence(server.client.post(call, content=body, headers=JSON))
        assert sentence.startswith("There is no parameter '\\ud800' here: use image, model")
