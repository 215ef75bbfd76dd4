"""SIGTERM to the parent alone, as a container engine sends it: nobody's request is lost."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.contract.artefacts import write_slow_model
from tests.contract.wire import connect, read_answer, start_post
from tests.server import PATIENCE, Server, start_server, wait_until
from tests.service.quadrants import encode, light

PICTURE = encode(light(3))
DRAIN_SECONDS = 2.0


class Outcome(NamedTuple):
    """One request of the steady stream."""

    started: float
    status: int | None  # None: no answer came
    connection: str


@pytest.fixture
def server(quadrants_dir: Path, tmp_path: Path) -> Iterator[Server]:
    """A server to be stopped."""
    with start_server(quadrants_dir, tmp_path, drain_seconds=DRAIN_SECONDS) as running:
        running.wait_ready()
        yield running


def ask_until_refused(url: str, stopped: threading.Event) -> list[Outcome]:
    """One request after another until nobody listens, each told as it went."""
    outcomes = []
    with httpx.Client(base_url=url, timeout=20) as client:
        while not stopped.is_set():
            started = time.monotonic()
            try:
                answer = client.post("/predict", content=PICTURE)
                connection = answer.headers.get("connection", "")
                outcomes.append(Outcome(started, answer.status_code, connection))
            except httpx.ConnectError:
                break
            except httpx.TransportError:
                outcomes.append(Outcome(started, None, ""))
    return outcomes


def test_draining_turns_readiness_at_once_and_answers_on_until_it_ends(server: Server) -> None:
    stopped = threading.Event()
    with ThreadPoolExecutor(3) as clients:
        streams = [clients.submit(ask_until_refused, server.url, stopped) for _ in range(3)]
        time.sleep(0.2)  # a stream under way
        server.process.terminate()
        told = time.monotonic()
        wait_until(lambda: server.client.get("/readyz").status_code == 503, DRAIN_SECONDS)
        readiness = server.client.get("/readyz")
        assert "draining" in readiness.json()["reasons"][0]
        assert readiness.headers["connection"] == "close"
        assert server.client.get("/v2/health/ready").json() == {"ready": False}
        assert server.client.get("/livez").status_code == 200
        assert server.process.wait(PATIENCE) == 0
        ended = time.monotonic()
        stopped.set()
        outcomes = [outcome for stream in streams for outcome in stream.result()]
    assert ended - told >= DRAIN_SECONDS
    before = [o for o in outcomes if o.started < told]
    meanwhile = [o for o in outcomes if told + 0.5 < o.started < told + DRAIN_SECONDS - 0.2]
    assert {o.status for o in before} == {200}
    assert len(meanwhile) > 3
    assert {(o.status, o.connection) for o in meanwhile} == {(200, "close")}
    after = [o.status for o in outcomes if o.started > told + DRAIN_SECONDS]
    assert set(after) <= {200, 503, None}  # nobody is told anything else


def test_what_was_accepted_before_the_end_is_still_answered(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "models" / "slow" / "1" / "model.onnx", seconds=0.3)
    with start_server(tmp_path / "models", tmp_path, drain_seconds=0.2) as server:
        server.wait_ready()
        with connect(server) as connection:
            start_post(connection, "/predict", len(PICTURE))
            connection.sendall(PICTURE)
            wait_until(lambda: "sightglass_queue_images 1" in server.client.get("/metrics").text)
            server.process.terminate()
            assert read_answer(connection)[0] == 200
        assert server.process.wait(PATIENCE) == 0


def test_after_draining_requests_on_open_connections_are_refused(server: Server) -> None:
    with connect(server) as connection:
        start_post(connection, "/predict", len(PICTURE))  # its body comes too late
        wait_until(lambda: "sightglass_queue_images 1" in server.client.get("/metrics").text)
        server.process.terminate()
        end = time.monotonic() + DRAIN_SECONDS + 1
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
