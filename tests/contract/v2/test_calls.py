"""Requests that Triton's client does not send, and limits that also hold for `/v2`."""

import gzip
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.v2.number_lists import MAX_VALUES
from tests.contract.artifacts import POISON
from tests.contract.v2.conftest import MAX_QUEUE_SIZE, MAX_REQUEST_BYTES
from tests.contract.v2.inputs import make_pixels
from tests.contract.wire import read_metric
from tests.server import Server
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

INFER = "/v2/models/quadrants/infer"
JSON_LENGTH = "Inference-Header-Content-Length"


def make_call(*quarters: int, **parts: Any) -> dict[str, Any]:
    """Return a request in JSON only."""
    pixels = make_pixels(*quarters)
    image = {"name": "image", "datatype": "UINT8", "shape": [*pixels.shape]}
    return {"inputs": [image | {"data": pixels.ravel().tolist()}]} | parts


def make_binary(head: dict[str, Any], *blocks: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body with binary data after its JSON, and its headers."""
    document = json.dumps(head).encode()
    return b"".join((document, *blocks)), {JSON_LENGTH: str(len(document))}


def check_rejected(response: httpx.Response, status: int, message: str) -> None:
    """Fail if the answer is not an error of the protocol with this status and message."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert response.headers["x-request-id"]


def test_a_request_in_json_is_answered_in_json(server: Server) -> None:
    response = server.client.post(INFER, json=make_call(2))
    assert response.headers["content-type"] == "application/json"
    assert JSON_LENGTH not in response.headers
    assert "id" not in response.json()
    [logits, probabilities, cam] = response.json()["outputs"]
    assert logits == {"name": "logits", "datatype": "FP32", "shape": [1, 4]} | {
        "data": pytest.approx([-1, -1, 10, -1], rel=1e-5)
    }
    assert probabilities["shape"] == [1, 4]
    assert (cam["shape"], cam["data"]) == ([1, 0, 4, 4], [])


def test_answers_have_timings(server: Server) -> None:
    response = server.client.post(INFER, json=make_call(2))
    stages = {part.split(";")[0] for part in response.headers["server-timing"].split(", ")}
    assert stages == {"queue", "inference", "total"}


def test_nested_data_is_accepted_like_flat_data(server: Server) -> None:
    pixels = make_pixels(3)
    call = make_call(3)
    call["inputs"][0]["data"] = pixels.tolist()
    [logits, *_] = server.client.post(INFER, json=call).json()["outputs"]
    assert np.argmax(logits["data"]) == 3


def test_unknown_fields_are_ignored(server: Server) -> None:
    call = make_call(0, model_name="quadrants", parameters={"priority": 1, "sequence_id": 7})
    assert server.client.post(INFER, json=call).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 60_000, "not valid JSON"),
        (b"{}", "'inputs' is missing"),
        (b'{"inputs": []}', "'inputs' must have at least 1 item, got []"),
        (b'{"inputs": [{}]}', "'inputs.0.name' is missing"),
        (b'{"inputs": [], "inputs": []}', "2 times"),
        (b'{"inputs": [], "id": "\\ud800"}', "'id' must be valid Unicode"),
        (b'{"inputs": [], "id": 7}', "'id' must be a valid string, got 7"),
        (b'{"inputs": [{"name":"image","datatype":"UINT8","shape":[-1]}]}', "'inputs.0.shape.0'"),
        (b'{"inputs": [{"name":"image","datatype":"UINT8","shape":[1.5]}]}', "'inputs.0.shape.0'"),
        (
            b'{"inputs": [{"name":"image","datatype":"UINT8","shape":[1]}]}',
            "must have either 'data'",
        ),
        (
            b'{"inputs": [{"name":"image","datatype":"UINT8","shape":[2000000000,32,32,3],'
            b'"data":[]}]}',
            "N from 1 to 64",
        ),
        (
            b'{"inputs": [{"name":"image","datatype":"BYTES","shape":[1],"data":["no base64"]}]}',
            "not valid base64",
        ),
    ],
)
def test_malformed_requests_are_rejected_with_the_reason(
    server: Server, body: bytes, message: str
) -> None:
    check_rejected(server.client.post(INFER, content=body), 400, message)


@pytest.mark.parametrize(
    "length",
    ["-1", "1e3", "999999", "9" * 5000, "x", "\u00b2", "0" * 20 + "60000", "0" * 5000 + "13"],
)
def test_an_invalid_json_length_is_rejected(server: Server, length: str) -> None:
    headers = {JSON_LENGTH: length.encode("latin-1")}
    response = server.client.post(INFER, json=make_call(0), headers=headers)  # type: ignore[arg-type]
    check_rejected(response, 400, JSON_LENGTH)


def test_binary_data_of_the_wrong_size_is_rejected(server: Server) -> None:
    content = make_pixels(0).tobytes()
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
    for size, sent, message in (
        (3072, content[:-1], "must have 3072 binary bytes, but 3071 are left"),
        (3072, content + b"more", "4 bytes follow the last input"),
        (100, content[:100], "got 100 binary bytes"),
    ):
        body, headers = make_binary(
            {"inputs": [image | {"parameters": {"binary_data_size": size}}]}, sent
        )
        check_rejected(server.client.post(INFER, content=body, headers=headers), 400, message)


def test_too_many_values_in_json_are_rejected(server: Server) -> None:
    call = make_call(0)
    call["inputs"][0]["data"] = [0] * (MAX_VALUES + 1)
    check_rejected(server.client.post(INFER, json=call), 413, "as binary data")


@pytest.mark.parametrize("accepted", ["gzip", "deflate"])
def test_an_answer_is_compressed_if_requested(server: Server, accepted: str) -> None:
    headers = {"accept-encoding": accepted}
    response = server.client.post(INFER, json=make_call(0), headers=headers)
    assert "content-encoding" not in response.headers  # too short to compress
    response = server.client.post(INFER, json=make_call(*[0] * 32), headers=headers)
    assert response.headers["content-encoding"] == accepted
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.json()["outputs"][0]["shape"] == [32, 4]


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", ""])
def test_an_answer_is_not_compressed_if_not_requested(server: Server, accepted: str) -> None:
    headers = {"accept-encoding": accepted}
    response = server.client.post(INFER, json=make_call(*[0] * 32), headers=headers)
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("br", b"{}", 415, "Content-Encoding must be one of gzip, deflate, identity, got 'br'"),
        ("gzip", b"{}", 400, "not valid gzip"),
        ("deflate", gzip.compress(b"{}", mtime=0), 400, "not valid deflate"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-9], 400, "truncated"),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400, "extra bytes"),
        ("gzip", gzip.compress(b"{}", mtime=0) + bytes(600_000), 400, "after the end"),
        ("gzip", gzip.compress(b"{}", mtime=0), 400, "'inputs' is missing"),
    ],
)
def test_invalid_compressed_bodies_are_rejected(
    server: Server, encoding: str, body: bytes, status: int, message: str
) -> None:
    headers = {"content-encoding": encoding}
    check_rejected(server.client.post(INFER, content=body, headers=headers), status, message)


@pytest.mark.parametrize("unpacked", [MAX_REQUEST_BYTES + 1, 50_000_000])
def test_a_compressed_body_is_limited_by_its_uncompressed_size(
    strict_server: Server, unpacked: int
) -> None:
    body = zlib.compress(b" " * unpacked)
    headers = {"content-encoding": "deflate"}
    response = strict_server.client.post(INFER, content=body, headers=headers)
    check_rejected(response, 413, f"longer than {MAX_REQUEST_BYTES} bytes")


def test_the_limits_of_the_native_api_hold(strict_server: Server) -> None:
    call = make_call(*[0] * (MAX_QUEUE_SIZE + 1))
    check_rejected(strict_server.client.post(INFER, json=call), 413, f"at most {MAX_QUEUE_SIZE}")
    body = bytes(MAX_REQUEST_BYTES + 1)
    check_rejected(strict_server.client.post(INFER, content=body), 413, "send less")
    assert read_metric(strict_server, "sightglass_queue_images") == 0
    assert read_metric(strict_server, "sightglass_inflight_bytes") == 0


def test_a_failing_row_fails_only_its_own_request(strict_server: Server) -> None:
    call = make_call(0, 1)
    fragile = "/v2/models/fragile/infer"
    assert strict_server.client.post(fragile, json=call).status_code == 200
    call["inputs"][0]["data"][0] = POISON
    check_rejected(strict_server.client.post(fragile, json=call), 500, "The server failed")


def test_a_model_that_did_not_load_is_not_ready(strict_server: Server) -> None:
    for path in ("", "/ready", "/config"):
        response = strict_server.client.get(f"/v2/models/broken{path}")
        check_rejected(response, 503, "failed to load")
    check_rejected(strict_server.client.post("/v2/models/broken/infer"), 503, "failed to load")


def test_early_errors_have_the_shape_of_the_protocol(server: Server) -> None:
    check_rejected(server.client.get("/v2/nowhere"), 404, "nothing at '/v2/nowhere'")
    check_rejected(server.client.get(INFER), 405, "use POST")
    other = server.client.get("/v2nowhere").json()["error"]
    assert other["code"] == "not_found"


def test_rows_are_counted_and_logged_like_those_of_the_native_api(server: Server) -> None:
    rows = read_metric(server, "sightglass_batch_size_sum", model="quadrants")
    empty = read_metric(server, "sightglass_empty_maps_total", model="quadrants")
    target = {"name": "target", "datatype": "INT64", "shape": [2, 1], "data": [-1, 2]}
    call = make_call(0, 1)
    call["inputs"].append(target)
    server.client.post(INFER, json=call, headers={"x-request-id": "oip-1"})
    assert read_metric(server, "sightglass_batch_size_sum", model="quadrants") == rows + 2
    assert read_metric(server, "sightglass_empty_maps_total", model="quadrants") == empty + 1
    assert read_metric(server, "sightglass_queue_images") == 0
    [line] = server.wait_events(lambda event: event.get("request_id") == "oip-1")
    assert (line["route"], line["images"]) == ("/v2/models/{name}/infer", 2)
    assert (line["model"], line["version"]) == ("quadrants", "1")


def test_rows_share_batches_with_the_native_api(quadrants_dir: Path, tmp_path: Path) -> None:
    # A batch waits until it is full. Two rows fill it, and one row would wait until its deadline.
    settings = {"max_batch_size": 2, "max_queue_delay_ms": 60_000}
    with (
        start_worker(quadrants_dir, tmp_path, **settings) as server,
        ThreadPoolExecutor() as threads,
    ):
        server.wait_ready()
        predicted = threads.submit(
            server.client.post, "/predict", content=encode(light(3)), params={"top_k": 1}
        )
        inferred = threads.submit(server.client.post, INFER, json=make_call(1))
        [prediction] = predicted.result().json()["predictions"]
        assert prediction["index"] == 3
        assert np.argmax(inferred.result().json()["outputs"][0]["data"]) == 1
        assert read_metric(server, "sightglass_batch_size_count") == 1
        assert read_metric(server, "sightglass_batch_size_sum") == 2
