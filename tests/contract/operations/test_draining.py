"""SIGTERM to the parent alone, as a container engine sends it: nobody's request is lost."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.contract.artifacts import write_slow_model
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.server import PATIENCE, start_server, wait_until
from tests.service.quadrants_model import encode, light

PICTURE = encode(light(3))
DRAIN_SECONDS = 5.0  # enough for all that is asked meanwhile, on a machine that is busy, too


class Outcome(NamedTuple):
    """One request of the steady stream."""

    started: float
    ended: float
    status: int | None  # None: no answer came
    connection: str


def ask_until_refused(url: str, stopped: threading.Event) -> list[Outcome]:
    """One request after another until nobody listens, each told as it went."""
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


def test_draining_turns_readiness_at_once_and_answers_on_until_it_ends(
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
        streams = [clients.submit(ask_until_refused, server.url, stopped) for _ in range(3)]
        wait_until(lambda: read_metric(server, "sightglass_requests_total", route="/predict") > 3)
        server.process.terminate()
        told = time.monotonic()
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
    assert ended - told >= DRAIN_SECONDS
    before = [o for o in outcomes if o.started < told]
    meanwhile = [o for o in outcomes if turned < o.started and o.ended < told + DRAIN_SECONDS]
    assert {o.status for o in before} == {200}
    assert len(meanwhile) > 3
    assert {(o.status, o.connection) for o in meanwhile} == {(200, "close")}
    after = [o.status for o in outcomes if o.started > told + DRAIN_SECONDS]
    assert set(after) <= {200, 503, None}  # nobody is told anything else


def test_what_was_accepted_before_the_end_is_still_answered(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "models" / "slow" / "1" / "model.onnx", seconds=0.15)
    settings = {"drain_seconds": 0.2, "max_batch_size": 1, "intra_op_threads": 1}
    with start_server(tmp_path / "models", tmp_path, **settings) as server:
        server.wait_ready()
        with ThreadPoolExecutor(1) as other:
            files = [("image", PICTURE)] * 16
            crowd = other.submit(server.client.post, "/predict/batch", files=files)
            wait_until(lambda: count_images(server) == 16)
            server.process.terminate()
            assert crowd.result().status_code == 200
        assert server.process.wait(PATIENCE) == 0


def test_after_draining_requests_on_open_connections_are_refused(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    drain_seconds = 1.0
    with start_server(quadrants_dir, tmp_path, drain_seconds=drain_seconds) as server:
        server.wait_ready()
        with connect(server) as connection:
            start_post(connection, "/predict", len(PICTURE))  # its body comes too late
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
