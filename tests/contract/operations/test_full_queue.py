"""With a full queue, requests are rejected before their body."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.inference.results import CLASS_BYTES, LABEL_COPIES
from tests.contract.tree import PICTURE
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.reliability.photographs import make_request
from tests.server import Server, wait_until
from tests.service.quadrants_model import LABELS, encode, light
from tests.warm_process import start_worker

TEXT = base64.b64encode(PICTURE).decode()
KEY = "k" * 32
KEYED = f"Authorization: Bearer {KEY}"
REQUEST = make_request("/predict", PICTURE, KEYED)
QUEUE_SIZE = 2


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, quadrants_dir: Path) -> Iterator[Server]:
    """A server with a small queue and a key. No batch is ever full, so images wait for long."""
    folder = tmp_path_factory.mktemp("full")
    settings = {
        "max_queue_size": QUEUE_SIZE,
        "max_queue_delay_ms": 60_000,
        "max_batch_size": 100,
        "request_timeout_ms": 60_000,
        "api_keys": KEY,
    }
    with start_worker(quadrants_dir, folder, **settings) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        running.wait_ready()
        yield running


@contextlib.contextmanager
def fill(server: Server, images: int = QUEUE_SIZE) -> Iterator[list[socket.socket]]:
    """Fill the queue with images that wait for their batch. Their clients leave in the end."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(connect(server)) for _ in range(images)]
        for holder in holders:
            holder.sendall(REQUEST)
        wait_until(lambda: count_images(server) == images)
        yield holders
    wait_until(lambda: count_images(server) == 0)


@pytest.mark.parametrize("call", ["/predict", "/predict/batch", "/gradcam", "/gradcam/batch"])
def test_a_rejection_comes_before_the_body(full: Server, call: str) -> None:
    mine = f"mine{call}".replace("/", ".")
    rejected = read_metric(full, "sightglass_rejected_total", code="overloaded")
    with fill(full):
        for _ in range(2):
            with connect(full) as connection:
                start_post(connection, call, len(PICTURE), KEYED, f"X-Request-Id: {mine}")
                status, headers, body = read_answer(connection)
                assert (status, headers["connection"]) == (429, "close")
                assert int(headers["retry-after"]) >= 1
                assert headers["x-request-id"] == mine
                assert json.loads(body)["error"]["code"] == "overloaded"
    assert read_metric(full, "sightglass_rejected_total", code="overloaded") == rejected + 2
    requests = full.wait_events(lambda event: event.get("request_id") == mine, 2)
    assert [event["code"] for event in requests] == ["overloaded"] * 2
    assert {event["route"] for event in requests} == {call}


def test_the_input_of_a_picture_that_waits_counts_as_memory(full: Server) -> None:
    content = encode(light(0, (300, 200)))
    with connect(full) as connection:
        connection.sendall(make_request("/predict", content, KEYED))
        wait_until(lambda: count_images(full) == 1)
        waiting = len(make_request("/predict", content, KEYED).partition(b"\r\n\r\n")[2])
        answer = sum(CLASS_BYTES + LABEL_COPIES * len(json.dumps(label)) for label in LABELS)
        held = waiting + 3 * 32 * 32 + answer
        wait_until(lambda: read_metric(full, "sightglass_inflight_bytes") == held)
    wait_until(lambda: read_metric(full, "sightglass_inflight_bytes") == 0)


def test_pipelined_requests_are_rejected_in_order(full: Server) -> None:
    after = f"GET /models HTTP/1.1\r\nHost: test\r\n{KEYED}\r\n\r\n"
    with fill(full), connect(full) as connection:
        connection.sendall(REQUEST * 20 + after.encode())
        assert [read_answer(connection)[0] for _ in range(21)] == [429] * 20 + [200]


def test_a_body_that_arrives_when_the_queue_has_become_full_is_rejected(full: Server) -> None:
    with fill(full, QUEUE_SIZE - 1), connect(full) as late:
        start_post(late, "/predict", len(PICTURE), KEYED)
        wait_until(lambda: count_images(full) == QUEUE_SIZE)
        with connect(full) as earlier:
            earlier.sendall(REQUEST)
            wait_until(lambda: count_images(full) == QUEUE_SIZE + 1)
            late.sendall(PICTURE)
            status, headers, _ = read_answer(late)
            assert (status, headers.get("connection")) == (429, None)


def test_a_batch_that_does_not_fit_the_queue_is_rejected_as_a_whole(full: Server) -> None:
    with fill(full, QUEUE_SIZE - 1):
        answer = full.client.post("/predict/batch", json={"images": [TEXT] * QUEUE_SIZE})
        assert answer.status_code == 429
        assert count_images(full) == QUEUE_SIZE - 1


@pytest.mark.parametrize(
    "headers", [(KEYED, "Expect: 100-continue"), (KEYED, "Connection: close")], ids=str
)
def test_a_connection_that_cannot_continue_gets_connection_close(
    full: Server, headers: tuple[str, ...]
) -> None:
    with fill(full), connect(full) as connection:
        start_post(connection, "/predict", len(PICTURE), *headers)
        status, answer_headers, _ = read_answer(connection)
        assert (status, answer_headers["connection"]) == (429, "close")
        assert connection.recv(1) == b""


def test_other_errors_are_reported_even_if_the_queue_is_full(full: Server) -> None:
    with fill(full), connect(full) as connection:
        start_post(connection, "/predict", len(PICTURE))
        assert read_answer(connection)[0] == 401
    with fill(full), connect(full) as connection:
        start_post(connection, "/predict", 100_000_000, KEYED)
        assert read_answer(connection)[0] == 413
    with fill(full):
        assert full.client.get("/models").status_code == 200
        assert full.client.get("/predict").status_code == 405
        assert full.client.post("/nowhere", content=PICTURE).status_code == 404


def test_the_inference_protocol_is_rejected_in_its_own_format(full: Server) -> None:
    with fill(full):
        answer = full.client.post("/v2/models/quadrants/infer", content=b"{}")
    assert answer.status_code == 429
    assert "The queue is full" in answer.json()["error"]
