"""With a full queue, requests are rejected before their body."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.tree import PICTURE
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.reliability.photographs import make_request
from tests.server import Server, wait_until
from tests.warm_process import start_worker

KEY = "k" * 32
KEYED = f"Authorization: Bearer {KEY}"
REQUEST = make_request("/predict", PICTURE, KEYED)
QUEUE_SIZE = 2


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, quadrants_dir: Path) -> Iterator[Server]:
    """A server with a small queue, a key and a short deadline."""
    folder = tmp_path_factory.mktemp("full")
    settings = {"max_queue_size": QUEUE_SIZE, "request_timeout_ms": 3500, "api_keys": KEY}
    with start_worker(quadrants_dir, folder, **settings) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        running.wait_ready()
        yield running


@contextlib.contextmanager
def fill(server: Server) -> Iterator[list[socket.socket]]:
    """Fill the queue with requests whose bodies have not arrived yet."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(connect(server)) for _ in range(QUEUE_SIZE)]
        for holder in holders:
            start_post(holder, "/predict", len(PICTURE), KEYED)
        wait_until(lambda: count_images(server) == QUEUE_SIZE)
        yield holders
        for holder in holders:
            holder.sendall(PICTURE)
            assert read_answer(holder)[0] == 200
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


def test_pipelined_requests_are_rejected_in_order(full: Server) -> None:
    after = f"GET /models HTTP/1.1\r\nHost: test\r\n{KEYED}\r\n\r\n"
    with fill(full), connect(full) as connection:
        connection.sendall(REQUEST * 20 + after.encode())
        assert [read_answer(connection)[0] for _ in range(21)] == [429] * 20 + [200]


def test_a_pipelined_request_is_admitted_after_the_one_before(full: Server) -> None:
    with fill(full) as holders:
        holders[0].sendall(PICTURE + REQUEST)  # now the queue has a free slot
        assert [read_answer(holders[0])[0] for _ in range(2)] == [200, 200]
        wait_until(lambda: count_images(full) == QUEUE_SIZE - 1)
        start_post(holders[0], "/predict", len(PICTURE), KEYED)
        wait_until(lambda: count_images(full) == QUEUE_SIZE)


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
