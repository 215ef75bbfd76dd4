"""Headers without end, slow headers, and bodies that do not arrive in time."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.tree import PICTURE
from tests.contract.wire import connect, count_images, read_answer, start_post
from tests.server import PATIENCE, Server
from tests.warm_process import start_worker

START = b"GET /livez HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def short_deadline(
    tmp_path_factory: pytest.TempPathFactory, quadrants_dir: Path
) -> Iterator[Server]:
    """A server with a short request deadline."""
    folder = tmp_path_factory.mktemp("hasty")
    with start_worker(quadrants_dir, folder, request_timeout_ms=1500) as running:
        running.wait_ready()
        yield running


@pytest.mark.parametrize("piece", [b"a" * 1000, b"a: b\r\n" * 100], ids=["one long", "many"])
def test_headers_without_end_are_rejected(server: Server, piece: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(START + b"X: ")
        for _ in range(1 + 66_000 // len(piece)):
            connection.sendall(piece)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"]) == (400, "close")
        assert b"65536 bytes of headers" in body
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"GET /li", START], ids=["nothing", "a word", "a header"])
def test_headers_that_do_not_arrive_in_time_close_the_connection(
    short_deadline: Server, sent: bytes
) -> None:
    with connect(short_deadline) as connection:
        connection.sendall(sent)
        status, _, body = read_answer(connection)
        assert status == 400
        assert b"within 1.5 s" in body
        assert connection.recv(1) == b""


def test_a_kept_connection_may_be_idle_between_requests_but_not_within_one(
    short_deadline: Server,
) -> None:
    with connect(short_deadline) as connection:
        for _ in range(2):
            connection.sendall(START + b"\r\n")
            assert read_answer(connection)[0] == 200
        connection.settimeout(2)
        with pytest.raises(TimeoutError):  # the server sends nothing in the meantime
            connection.recv(1)
        connection.settimeout(PATIENCE)
        connection.sendall(START)
        assert read_answer(connection)[0] == 400


def test_a_body_that_does_not_arrive_in_time_is_a_request_timeout(short_deadline: Server) -> None:
    started = time.monotonic()
    with connect(short_deadline) as connection:
        start_post(connection, "/predict", len(PICTURE))
        connection.sendall(PICTURE[:10])
        status, headers, body = read_answer(connection)
    assert time.monotonic() - started >= 1.4
    assert status == 408
    assert headers["connection"] == "close"
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert count_images(short_deadline) == 0
