"""The log delays nobody, and nothing of it is lost when a worker ends."""

import os
import signal
import socket
from pathlib import Path

from tests.server import Server, connect_client, wait_until
from tests.warm_process import request_worker, start_worker

LINES = 800  # a pipe holds less than half of them


def test_a_reader_of_the_log_that_stalls_stops_no_request(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    environment = {**os.environ, "SIGHTGLASS_MODELS_DIR": str(quadrants_dir)}
    pid, port = request_worker(environment, str(fifo))
    content = b""
    try:
        with connect_client(port) as client:
            Server(port, pid, fifo, client).wait_answering()
            for number in range(LINES):
                headers = {"x-request-id": f"stalled-{number}"}
                assert client.get("/livez", headers=headers).status_code == 200

        def read_all() -> bool:
            nonlocal content
            try:
                content += os.read(reader, 1 << 20)
            except BlockingIOError:
                return False
            return content.count(b'"stalled-') == LINES

        wait_until(read_all)
    finally:
        os.kill(pid, signal.SIGINT)
        os.close(reader)


def test_a_worker_that_ends_has_written_all_lines(quadrants_dir: Path, tmp_path: Path) -> None:
    with start_worker(quadrants_dir, tmp_path) as worker:
        worker.wait_answering()
        for number in range(50):
            worker.client.get("/livez", headers={"x-request-id": f"last-{number}"})
    ids = [event.get("request_id") for event in worker.read_events()]
    assert [name for name in ids if str(name).startswith("last-")] == [
        f"last-{number}" for number in range(50)
    ]


def test_a_request_that_is_no_http_is_a_line_of_the_log(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        connection.recv(1000)
    server.wait_events(lambda event: event.get("method") == "_OTHER")
