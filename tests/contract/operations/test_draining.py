"""SIGTERM to the launcher only, as a container engine sends it: no request is lost."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.contract.artifacts import write_slow_model
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.server import PATIENCE, start_server, wait_until
from tests.service.quadrants_model import encode, light

PICTURE = encode(light(3))
DRAIN_SECONDS = 5.0  # enough for all requests in the meantime, even on a busy machine


class Outcome(NamedTuple):
    """One request of the steady load."""

    started: float
    ended: float
    status: int | None  # None: no answer
    connection: str


def ask_until_closed(url: str, stopped: threading.Event) -> list[Outcome]:
    """Send one request after another until nothing listens, and yield each outcome."""
    outcomes = []

    def note(status: int | None, connection: str = "") -> None:
        outcomes.append(Outcome(started, time.monotonic(), status, connection))

    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        while not stopped.is_set():
            started = time.monotonic()
            try:
                answer = client.post("/predict", content=PICTURE)
                note(answer.status_code, answer.headers.get("connection", ""))
            except httpx.ConnectError:
                break
            except httpx.TransportError:
                note(None)
    return outcomes


def test_draining_ends_readiness_at_once_and_requests_are_answered_until_the_end(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    stopped = threading.Event()
    with (
        start_server(quadrants_dir, tmp_path, drain_seconds=DRAIN_SECONDS) as server,
        ThreadPoolExecutor(3) as clients,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(stopped.set)
        server.wait_ready()
        streams = [clients.submit(ask_until_closed, server.url, stopped) for _ in range(3)]
        wait_until(lambda: read_metric(server, "sightglass_requests_total", route="/predict") > 3)
        server.process.terminate()
        signalled = time.monotonic()
        wait_until(lambda: server.client.get("/readyz").status_code == 503, DRAIN_SECONDS)
        turned = time.monotonic()
        readiness = server.client.get("/readyz")
        assert "draining" in readiness.json()["reasons"][0]
        assert readiness.headers["connection"] == "close"
        assert server.client.get("/v2/health/ready").json() == {"ready": False}
        assert server.client.get("/livez").status_code == 200
        assert server.process.wait(PATIENCE) == 0
        ended = time.monotonic()
        outcomes = [outcome for stream in streams for outcome in stream.result()]
    assert ended - signalled >= DRAIN_SECONDS
    before = [o for o in outcomes if o.started < signalled]
    meanwhile = [o for o in outcomes if turned < o.started and o.ended < signalled + DRAIN_SECONDS]
    assert {o.status for o in before} == {200}
    assert len(meanwhile) > 3
    assert {(o.status, o.connection) for o in meanwhile} == {(200, "close")}
    after = [o.status for o in outcomes if o.started > signalled + DRAIN_SECONDS]
    assert set(after) <= {200, 503, None}  # there is no other answer


@pytest.mark.slow
def test_requests_accepted_before_the_end_are_answered(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "models" / "slow" / "1" / "model.onnx", seconds=0.15)
    settings = {"drain_seconds": 0.2, "max_batch_size": 1, "intra_op_threads": 1}
    with start_server(tmp_path / "models", tmp_path, **settings) as server:
        server.wait_ready()
        with ThreadPoolExecutor(1) as other:
            files = [("image", PICTURE)] * 16
            batch = other.submit(server.client.post, "/predict/batch", files=files)
            wait_until(lambda: count_images(server) == 16)
            server.process.terminate()
            assert batch.result().status_code == 200
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_after_draining_requests_on_open_connections_are_rejected(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    drain_seconds = 1.0
    with start_server(quadrants_dir, tmp_path, drain_seconds=drain_seconds) as server:
        server.wait_ready()
        with connect(server) as connection:
            start_post(connection, "/predict", len(PICTURE))  # its body follows later
            wait_until(lambda: count_images(server) == 1)
            server.process.terminate()
            end = time.monotonic() + drain_seconds + 1
            statuses = set()
            while time.monotonic() < end:
                try:
                    statuses.add(httpx.get(f"{server.url}/livez", timeout=2).status_code)
                except httpx.TransportError:
                    break
            connection.sendall(PICTURE)
            assert read_answer(connection)[0] == 200  # accepted before, answered after
        assert statuses <= {200, 503}
        assert server.process.wait(PATIENCE) == 0
