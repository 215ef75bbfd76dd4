"""Every error answer has the same shape: a code, one sentence, the request's id."""

import json
from typing import Any

import pytest

from tests.contract.pictures import announce_size, cut_short
from tests.server import Server
from tests.service.quadrants_model import encode, light

PICTURE = encode(light(0))
REJECTED: list[tuple[int, str, str, str, dict[str, Any]]] = [
    (400, "bad_request", "POST", "/predict", {"content": b""}),
    (404, "not_found", "GET", "/nowhere", {}),
    (404, "not_found", "POST", "/predict/", {"content": PICTURE}),
    (404, "model_not_found", "GET", "/models/nobody", {}),
    (404, "model_not_found", "POST", "/predict?model=nobody", {"content": PICTURE}),
    (405, "method_not_allowed", "GET", "/predict", {}),
    (405, "method_not_allowed", "DELETE", "/models/quadrants", {}),
    (405, "method_not_allowed", "POST", "/readyz", {"content": b"x"}),
    (406, "not_acceptable", "POST", "/gradcam", {"headers": {"accept": "text/html"}}),
    (413, "payload_too_large", "POST", "/predict", {"content": bytes(10_485_761)}),
    (415, "unsupported_media_type", "POST", "/gradcam", {"content": b"no picture"}),
    (422, "invalid_image", "POST", "/predict", {"content": cut_short(PICTURE)}),
    (422, "image_too_large", "POST", "/predict", {"content": announce_size(10_000, 10_000)}),
    (422, "unknown_label", "POST", "/gradcam?target=cat", {"content": PICTURE}),
]


@pytest.mark.parametrize(("status", "code", "method", "path", "how"), REJECTED)
def test_an_error_has_a_code_a_sentence_and_the_request_id(
    server: Server, status: int, code: str, method: str, path: str, how: dict[str, Any]
) -> None:
    response = server.client.request(method, path, **how)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["code", "message", "request_id"]
    assert error["code"] == code
    assert error["message"].endswith((".", "?"))
    assert error["message"][0].isupper() or error["message"].startswith("'")
    assert error["request_id"] == response.headers["x-request-id"]


def test_an_error_for_a_wrong_method_lists_the_allowed_methods(server: Server) -> None:
    assert server.client.get("/predict").headers["allow"] == "POST"
    assert "GET" in server.client.post("/livez", content=b"x").headers["allow"]


def test_head_answers_like_get_without_the_body(server: Server) -> None:
    for path in ("/livez", "/readyz", "/models", "/metrics", "/docs"):
        response = server.client.head(path)
        assert response.status_code == 200
        assert response.content == b""
        assert int(response.headers["content-length"]) > 0


def test_an_error_keeps_the_connection_usable_for_the_next_request(server: Server) -> None:
    for content, status in ((b"no picture", 415), (PICTURE, 200), (b"", 400), (PICTURE, 200)):
        assert server.client.post("/predict", content=content).status_code == status


def test_no_input_causes_a_server_error(server: Server) -> None:
    hostile = [
        ("application/json", json.dumps({"image": "AAAA", "top_k": 10**400}).encode()),
        ("application/json", b'{"image": "AAAA", "top_k": 1e999}'),
        ("application/json", b'{"image": "AAAA", "top_k": {"a": [1]}}'),
        ("application/json", b'{"image": "AAAA", "target": [[1]]}'),
        ("application/json", b"{" * 10_000),
        ("application/json; charset=utf-16", '{"image": "AAAA"}'.encode("utf-16")),
        ("multipart/form-data; boundary=" + "x" * 500, PICTURE),
        ("multipart/form-data; boundary=\xff", PICTURE),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="\xff"'),
        ("multipart/form-data; boundary=x", b"--x--\r\n" + PICTURE),
        ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("image/tiff", b"II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 9),
        ("image/bmp", b"BM" + bytes(range(256))),
        ("image/gif", b"GIF89a" + bytes(range(256))),
    ]
    for content_type, body in hostile:
        headers = {"content-type": content_type.encode("latin-1")}
        for call in ("/predict", "/gradcam"):
            response = server.client.post(call, content=body, headers=headers)  # type: ignore[arg-type]
            assert 400 <= response.status_code < 500, (content_type, body[:40], response.text)
    for query in ("top_k=%ff", "%ff=1", "top_k=1&top_k", "=", "&&", "top_k[]=1"):
        response = server.client.post(f"/predict?{query}", content=PICTURE)
        assert response.status_code in (200, 400), query
