"""Headers without end, slow headers and bodies, answers that are not read, broken requests."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.tree import PICTURE
from tests.contract.wire import connect, count_images, read_answer, read_metric, start_post
from tests.server import PATIENCE, Server, connect_client, wait_until
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

START = b"GET /livez HTTP/1.1\r\nHost: test\r\n"
LARGE = START.replace(b"/livez", b"/models/wordy") + b"\r\n"  # more than a megabyte
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


@pytest.fixture(scope="module")
def wordy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose card has more than a megabyte."""
    folder = tmp_path_factory.mktemp("wordy")
    write_model(folder / "wordy" / "1" / "model.onnx", notes="word " * 250_000)
    return folder


@pytest.fixture(scope="module")
def short_deadline(tmp_path_factory: pytest.TempPathFactory, wordy_dir: Path) -> Iterator[Server]:
    """A server with a short request deadline."""
    folder = tmp_path_factory.mktemp("hasty")
    with start_worker(wordy_dir, folder, request_timeout_ms=1500) as running:
        running.wait_ready()
        yield running


@pytest.mark.parametrize(
    ("piece", "count", "limit"),
    [
        (b"a" * 1000, 67, b"65536 bytes of headers"),
        (b"a: b\r\n" * 100, 2, b"128 lines of headers"),
    ],
    ids=["one long", "many"],
)
def test_headers_without_end_are_rejected(
    server: Server, piece: bytes, count: int, limit: bytes
) -> None:
    with connect(server) as connection:
        connection.sendall(START + b"X: ")
        for _ in range(count):
            connection.sendall(piece)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"]) == (400, "close")
        assert limit in body
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


@pytest.mark.parametrize(("version", "is_asked"), [("1.1", True), ("1.0", False)])
def test_only_a_client_that_knows_it_is_asked_for_the_body(
    server: Server, version: str, is_asked: bool
) -> None:
    head = f"POST /predict HTTP/{version}\r\nHost: t\r\nContent-Length: {len(PICTURE)}\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        if is_asked:
            assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        time.sleep(0.1)
        connection.sendall(PICTURE)
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("call", ["/predict", "/gradcam", "/predict/batch"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(
    server: Server, call: str, offer: tuple[str, ...]
) -> None:
    with connect(server) as connection:
        start_post(connection, call, len(PICTURE), *offer)
        time.sleep(0.3)
        connection.sendall(PICTURE)
        assert read_answer(connection)[0] == 200
        start_post(connection, call, None, *offer)
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(PICTURE), PICTURE))
        assert read_answer(connection)[0] == 200


def test_a_trailer_has_no_effect(server: Server) -> None:
    body = b"%x\r\n%b\r\n0\r\nX-Request-Id: trailer\r\nAccept: text/html\r\n\r\n"
    with connect(server) as connection:
        start_post(connection, "/predict", None, "X-Request-Id: header")
        connection.sendall(body % (len(PICTURE), PICTURE))
        status, headers, _ = read_answer(connection)
    assert (status, headers["x-request-id"]) == (200, "header")


def test_whole_requests_before_a_broken_one_are_answered(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall((START + b"\r\n") * 3 + b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        assert [read_answer(connection)[0] for _ in range(3)] == [200] * 3
        status, headers, body = read_answer(connection)
        assert connection.recv(1) == b""
    assert status == 400
    assert headers["x-content-type-options"] == "nosniff"
    error = json.loads(body)["error"]
    assert error["code"] == "bad_request"
    assert error["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"], ids=["none", "two"])
def test_http_1_1_needs_one_host_header(server: Server, hosts: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + hosts + b"\r\n")
        status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (400, "close")
    assert b"one Host header" in body


@pytest.mark.parametrize(
    ("target", "length"),
    [("http://", "1"), ("http://a:99999/predict", "1"), ("/predict", "0" * 5000 + "1")],
    ids=["no host", "a bad port", "a long length"],
)
def test_a_broken_head_is_answered_on_a_new_connection(
    server: Server, target: str, length: str
) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\na"
    with connect(server) as connection:
        connection.sendall(head.encode())
        status, _, body = read_answer(connection)
        assert connection.recv(1) == b""
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")


def test_broken_chunks_are_an_error_of_their_request(server: Server) -> None:
    with connect(server) as connection:
        start_post(connection, "/v2/models/quadrants/infer", None)
        connection.sendall(b"5\r\nabcde\r\n")
        time.sleep(0.1)
        connection.sendall(b"no size\r\n")
        status, _, body = read_answer(connection)
    assert status == 400
    assert "not valid HTTP" in json.loads(body)["error"]


def test_an_answer_that_is_not_read_ends_its_connection(short_deadline: Server) -> None:
    def count_closed() -> float:
        return read_metric(short_deadline, "sightglass_connections_closed_total", reason="unread")

    before = count_closed()
    with connect_slow_reader(short_deadline) as connection:
        connection.sendall(LARGE * 8)
        wait_until(lambda: count_closed() == before + 1)
        assert len(read_to_end(connection)) < 1_000_000
    assert read_metric(short_deadline, "sightglass_inflight_bytes") == 0


def test_an_answer_may_be_read_slowly_but_steadily(short_deadline: Server) -> None:
    expected = short_deadline.client.get("/models/wordy").content
    with connect_slow_reader(short_deadline) as connection:
        connection.sendall(LARGE * 4 + LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        slowly = b""
        for _ in range(12):  # 3 s, twice the deadline
            time.sleep(0.25)
            slowly += connection.recv(16_384)
        received = slowly + read_to_end(connection)
    assert received.count(expected) == 5


def test_idle_connections_shut_nobody_out(quadrants_dir: Path, tmp_path: Path) -> None:
    with start_worker(quadrants_dir, tmp_path, max_connections=40) as server:
        server.wait_ready()
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        for _ in range(5):
            with connect_client(server.port) as client:
                assert client.post("/predict", content=PICTURE).status_code == 200
        assert idle[0].recv(1) == b""  # the oldest one was closed
        idle[-1].sendall(START + b"\r\n")
        assert read_answer(idle[-1])[0] == 200
        for connection in idle:
            connection.close()


def test_while_all_connections_are_busy_probes_are_answered_and_others_rejected(
    wordy_dir: Path, tmp_path: Path
) -> None:
    with start_worker(wordy_dir, tmp_path, max_connections=16) as server:
        server.wait_ready()
        server.client.close()
        busy = [connect_slow_reader(server) for _ in range(8)]
        for connection in busy:
            connection.sendall(LARGE * 8)  # the server can't send this
        with connect_client(server.port) as client:
            wait_until(lambda: client.get("/models").status_code == 429)
            rejected = client.get("/models")
            assert rejected.headers["retry-after"] == "1"
            assert rejected.json()["error"]["code"] == "overloaded"
            for path in ("/livez", "/readyz", "/v2/health/ready"):
                answer = client.get(path)
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            for connection in busy:
                connection.close()
            wait_until(lambda: client.get("/models").status_code == 200)


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    while piece := connection.recv(1 << 20):
        received += piece
    return received


def connect_slow_reader(server: Server) -> socket.socket:
    """Open a connection with little room for what is received."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", server.port))
    return connection
