"""Admission: limits of images and bytes, deadlines, and clients that disconnect."""

import base64
import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.contract.artifacts import POISON, write_fragile_model, write_slow_model
from tests.contract.pictures import paint
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.server import Server, wait_until
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

PICTURE = encode(light(0))
TEXT = base64.b64encode(PICTURE).decode()


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, quadrants_dir: Path) -> Iterator[Server]:
    """A server with small limits."""
    settings = {
        "max_queue_size": 3,
        "max_upload_bytes": 100_000,
        "max_request_bytes": 300_000,
        "max_inflight_bytes": 200_000,
        "max_image_pixels": 10_000,  # 40,000 bytes; bodies may have 160,000
    }
    with start_worker(quadrants_dir, tmp_path_factory.mktemp("tight"), **settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a slow model that runs one row at a time."""
    folder = tmp_path_factory.mktemp("slow")
    write_slow_model(folder / "models" / "slow" / "1" / "model.onnx", seconds=0.3)
    settings = {"max_batch_size": 1, "intra_op_threads": 1, "request_timeout_ms": 6000}
    with start_worker(folder / "models", folder, **settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model that fails for certain pictures and waits until batches are full."""
    folder = tmp_path_factory.mktemp("fragile")
    write_fragile_model(folder / "models" / "fragile" / "1" / "model.onnx")
    with start_worker(folder / "models", folder, max_queue_delay_ms=200) as running:
        running.wait_ready()
        yield running


def wait_answered(server: Server) -> None:
    """Return after one more prediction, which is answered after all earlier requests."""
    wait_until(lambda: server.client.post("/predict", content=PICTURE).status_code == 200)


def test_a_body_too_large_is_rejected_before_a_byte_of_it_is_sent(tight: Server) -> None:
    for call, length in (("/predict", 100_001), ("/predict/batch", 300_001)):
        with connect(tight) as connection:
            start_post(connection, call, length)
            status, headers, body = read_answer(connection)
            assert status == 413
            assert headers["connection"] == "close"
            assert json.loads(body)["error"]["code"] == "payload_too_large"
            started = time.monotonic()
            assert connection.recv(1) == b""  # closed, although no body was sent
            assert time.monotonic() - started < 10


def test_a_rejected_client_that_expects_100_continue_gets_no_100(tight: Server) -> None:
    with connect(tight) as connection:
        start_post(connection, "/predict", 100_001, "Expect: 100-continue")
        assert read_answer(connection)[0] == 413


def test_a_client_that_sends_its_whole_body_first_receives_the_rejection(tight: Server) -> None:
    response = tight.client.post("/predict", content=bytes(5_000_000))
    assert response.status_code == 413


def test_rejecting_a_short_body_that_has_arrived_keeps_the_connection(tight: Server) -> None:
    with connect(tight) as connection:
        for _ in range(2):
            start = (
                f"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
            )
            connection.sendall(start.encode() + PICTURE)
            status, headers, _ = read_answer(connection)
            assert (status, headers.get("connection")) == (404, None)
        start_post(connection, "/nowhere", len(PICTURE))  # the server does not wait for the body
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (404, "close")


def test_a_chunked_body_is_rejected_as_soon_as_it_is_too_large(tight: Server) -> None:
    with connect(tight) as connection:
        start_post(connection, "/predict", None)
        for _ in range(11):
            connection.sendall(b"2710\r\n" + bytes(10_000) + b"\r\n")
        assert read_answer(connection)[0] == 413  # the last chunk was never sent


def test_only_the_image_that_is_too_large_is_rejected_in_a_batch(tight: Server) -> None:
    large = bytes(100_001)
    single = tight.client.post("/predict", files={"image": large})
    assert single.status_code == 413
    files = [("image", PICTURE), ("image", large), ("image", PICTURE)]
    results = tight.client.post("/predict/batch", files=files).json()["results"]
    assert [r.get("error", {}).get("code") for r in results] == [None, "payload_too_large", None]


def test_json_may_be_a_third_longer_than_its_image(tight: Server) -> None:
    padded = PICTURE + bytes(99_000 - len(PICTURE))
    image = base64.b64encode(padded).decode()
    assert tight.client.post("/predict", json={"image": image}).status_code == 200
    image = base64.b64encode(bytes(100_001)).decode()
    assert tight.client.post("/predict", json={"image": image}).status_code == 413


def test_a_batch_larger_than_the_queue_is_too_large_not_overload(tight: Server) -> None:
    response = tight.client.post("/predict/batch", json={"images": [TEXT] * 4})
    assert response.status_code == 413
    assert "3" in response.json()["error"]["message"]
    assert tight.client.post("/predict/batch", json={"images": [TEXT] * 3}).status_code == 200


def test_more_bytes_than_the_budget_are_too_large_not_overload(tight: Server) -> None:
    with connect(tight) as holder, connect(tight) as connection:
        start_post(holder, "/predict/batch", 100_000)  # makes the server busy
        wait_until(lambda: count_images(tight) == 1)
        start_post(connection, "/predict/batch", 160_001)
        assert read_answer(connection)[0] == 413


def test_bodies_that_do_not_come_keep_nobody_out(tight: Server) -> None:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(connect(tight)) for _ in range(3)]
        start_post(holders[0], "/predict/batch", 150_000)
        wait_until(lambda: count_images(tight) == 1)
        for holder in holders[1:]:
            start_post(holder, "/predict/batch", 150_000)
        wait_until(lambda: count_images(tight) == 3)
        assert tight.client.post("/predict", content=PICTURE + bytes(20_000)).status_code == 200
        status, headers, body = read_answer(holders[0])  # more than three are too many
        assert (status, headers["connection"]) == (429, "close")
        assert int(headers["retry-after"]) >= 1
        assert json.loads(body)["error"]["code"] == "overloaded"
        assert count_images(tight) == 2
    wait_until(lambda: count_images(tight) == 0)


def test_a_body_that_comes_slowly_loses_its_room_to_others(tight: Server) -> None:
    with connect(tight) as holder:
        start_post(holder, "/predict/batch", 150_001)
        holder.sendall(bytes(150_000))
        wait_until(lambda: read_metric(tight, "sightglass_inflight_bytes") == 150_000)
        late = PICTURE + bytes(20_000)
        wait_until(lambda: tight.client.post("/predict", content=late).status_code == 200)
        status, _, body = read_answer(holder)
        assert status == 429
        assert "slowly" in json.loads(body)["error"]["message"]
    wait_until(lambda: read_metric(tight, "sightglass_inflight_bytes") == 0)


def test_pixels_beyond_the_budget_are_too_large(tight: Server) -> None:
    response = tight.client.post("/gradcam", content=PICTURE, params={"size": "4096"})
    assert response.status_code == 413


def test_rows_past_their_deadline_are_not_run_but_counted(slow: Server) -> None:
    dropped = read_metric(slow, "sightglass_dropped_total", reason="deadline")
    run = read_metric(slow, "sightglass_batch_size_sum")
    response = slow.client.post("/predict/batch", json={"images": [TEXT] * 64})
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"
    assert read_metric(slow, "sightglass_dropped_total", reason="deadline") == dropped + 64
    wait_answered(slow)
    assert read_metric(slow, "sightglass_batch_size_sum") - run < 64


def is_rejected(future: Future[httpx.Response]) -> bool:
    """Return whether the answer is here, and is that there is no room."""
    return future.done() and future.result().status_code == 429


def test_a_wait_beyond_the_deadline_is_rejected_with_a_retry_time(slow: Server) -> None:
    for _ in range(3):  # the server must know its rate
        wait_answered(slow)
    with ThreadPoolExecutor(40) as others:
        burst = [others.submit(slow.client.post, "/predict", content=PICTURE) for _ in range(40)]
        # On a busy machine the known rate may let in fewer than ten, and the others are rejected.
        wait_until(lambda: count_images(slow) > 10 or any(map(is_rejected, burst)))
        with connect(slow) as connection:
            start_post(connection, "/predict/batch", 67_108_865)
            hopeless, _, _ = read_answer(connection)
        answers = [future.result() for future in burst]
    assert {answer.status_code for answer in answers} <= {200, 429, 504}
    late = next(answer for answer in answers if answer.status_code == 429)
    match = re.search(r"about ([0-9.]+) s", late.json()["error"]["message"])
    assert match
    wait = float(match[1])
    assert wait >= 6  # the deadline
    assert int(late.headers["retry-after"]) in {math.ceil(wait - 0.05), math.ceil(wait + 0.05)}
    assert hopeless == 413  # even if busy: no later attempt can succeed


def test_pictures_are_decoded_only_a_few_batches_ahead_of_the_model(
    slow: Server,
) -> None:
    decoded = read_metric(slow, "sightglass_stage_seconds_count", stage="decode")
    run = read_metric(slow, "sightglass_batch_size_sum")
    body = json.dumps({"images": [TEXT] * 64}).encode()
    with connect(slow) as connection:
        start_post(connection, "/predict/batch", len(body), "Content-Type: application/json")
        connection.sendall(body)
        wait_until(lambda: read_metric(slow, "sightglass_batch_size_sum") > run + 2)
        decoded_then = read_metric(slow, "sightglass_stage_seconds_count", stage="decode")
        run_then = read_metric(slow, "sightglass_batch_size_sum")  # it can only have grown
    assert (decoded_then - decoded) - (run_then - run) <= 8  # of 64
    wait_until(lambda: count_images(slow) == 0)


def test_rows_of_disconnected_clients_are_not_run_but_counted(slow: Server) -> None:
    dropped = read_metric(slow, "sightglass_dropped_total", reason="client_gone")
    run = read_metric(slow, "sightglass_batch_size_sum")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(slow)) for _ in range(24)]
        for connection in connections:
            start_post(connection, "/predict", len(PICTURE))
        wait_until(lambda: count_images(slow) == 24)
        for connection in connections:
            connection.sendall(PICTURE)
        wait_until(lambda: read_metric(slow, "sightglass_batch_size_sum") > run)
    wait_until(
        lambda: read_metric(slow, "sightglass_dropped_total", reason="client_gone") >= dropped + 13
    )
    wait_answered(slow)
    assert read_metric(slow, "sightglass_batch_size_sum") - run <= 11
    assert count_images(slow) == 0


def test_requests_share_batches_while_the_model_is_busy(fragile: Server) -> None:
    batches = read_metric(fragile, "sightglass_batch_size_count")
    answer = fragile.client.post("/predict/batch", json={"images": [TEXT] * 8})
    assert answer.status_code == 200
    assert read_metric(fragile, "sightglass_batch_size_count") == batches + 1


def test_a_failing_batch_is_halved_until_only_the_bad_row_fails(fragile: Server) -> None:
    bad = encode(paint(POISON))
    images = [base64.b64encode(image).decode() for image in [PICTURE] * 5 + [bad] + [PICTURE] * 2]
    failed = read_metric(fragile, "sightglass_failed_total")
    response = fragile.client.post(
        "/predict/batch", json={"images": images}, headers={"x-request-id": "culprit"}
    )
    results = response.json()["results"]
    codes = [result.get("error", {}).get("code") for result in results]
    assert codes == [None] * 5 + ["internal"] + [None] * 2
    assert all(r["predictions"][0]["index"] == 0 for r in results if "error" not in r)
    assert read_metric(fragile, "sightglass_failed_total") == failed + 1
    event = fragile.wait_events(lambda event: event["event"] == "image failed")[0]
    assert event["request_id"] == "culprit"
    assert "Gather" in event["exception"]


def test_other_requests_in_the_batch_of_a_bad_row_are_answered(fragile: Server) -> None:
    contents = [PICTURE, encode(paint(POISON)), PICTURE, PICTURE]
    start = threading.Barrier(len(contents))

    def post(content: bytes) -> int:
        start.wait()
        return httpx.post(f"{fragile.url}/predict", content=content, timeout=30).status_code

    with ThreadPoolExecutor(len(contents)) as clients:
        assert list(clients.map(post, contents)) == [200, 500, 200, 200]
