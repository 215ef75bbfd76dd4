"""Starting and stopping: one port for all workers, draining without losing a call."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from service.cli.grpc_port import check_grpc_port
from service.settings import SettingsError, read_settings
from tests.contract.wire import read_metric
from tests.server import find_free_port, start_server, wait_until
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

pytest.importorskip("h2", reason="the extra grpc is not installed")
from tests.grpc_connection import connect, frame

triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient or grpcio is not installed")
OK = 0
NOT_READY, READY = frame(b""), frame(b"\x08\x01")


def make_message() -> bytes:
    """Return a ModelInferRequest with one picture."""
    picture = encode(light(2))
    contents = b"\x42" + write_length(picture) + picture
    tensor = b"\x0a\x05image\x12\x05BYTES\x18\x01\x2a" + write_length(contents) + contents
    return b"\x0a\x09quadrants\x2a" + write_length(tensor) + tensor


def write_length(content: bytes) -> bytes:
    """Return a length under 16,384 as protocol buffers write it."""
    return bytes([len(content) & 0x7F | 0x80, len(content) >> 7])


def infer(client: Any) -> int:
    """Classify a picture, and return its class."""
    files = np.array([encode(light(2))], dtype=np.object_)
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(files)
    return int(client.infer("quadrants", [image]).as_numpy("logits").argmax())


def test_a_draining_worker_answers_and_asks_its_clients_to_go(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    port = find_free_port()
    with start_worker(quadrants_dir, tmp_path, grpc_port=port, drain_seconds=600) as server:
        server.wait_ready()
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client, connect(port) as other:
            assert client.is_server_ready()
            os.kill(server.pid, signal.SIGTERM)
            server.wait_logged('"event":"draining"')
            assert not client.is_server_ready()
            assert [infer(client) for _ in range(50)] == [2] * 50
            other.send(other.start("ServerLive"), frame(b""), end=True)
            wait_until(lambda: not other.receive())
            assert other.is_closed


def test_a_call_that_has_begun_is_answered_before_the_worker_ends(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    port = find_free_port()
    batch = {"max_batch_size": 2, "max_queue_delay_ms": 3000}  # the call waits for a second one
    settings = {"grpc_port": port, "drain_seconds": 0, **batch}
    with (
        start_worker(quadrants_dir, tmp_path, **settings) as server,
        ThreadPoolExecutor() as threads,
    ):
        server.wait_ready()
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            begun = threads.submit(infer, client)
            wait_until(lambda: read_metric(server, "sightglass_queue_images") == 1)
            os.kill(server.pid, signal.SIGTERM)
            assert begun.result() == 2
        wait_until(lambda: not server.is_running())


@pytest.mark.slow
def test_all_workers_listen_on_the_port_and_ctrl_c_ends_them(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    port = find_free_port()
    with start_server(quadrants_dir, tmp_path, workers=2, grpc_port=port) as server:
        server.wait_ready()
        wait_until(lambda: server.read_log().count('"event":"ready"') == 2)
        workers = server.find_workers()
        assert len(workers) == 2
        for pid in workers:
            listening = {
                one.laddr
                for one in psutil.Process(pid).net_connections("tcp")
                if one.status == psutil.CONN_LISTEN
            }
            assert ("127.0.0.1", port) in listening
        with connect(port) as connection:
            assert connection.call("ModelInfer", make_message()).status == OK
            assert server.stop(signal.SIGINT) == 0


def test_a_port_that_can_not_be_used_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    http, other = find_free_port(), find_free_port()

    def check(port: int) -> None:
        monkeypatch.setenv("SIGHTGLASS_GRPC_PORT", str(port))
        check_grpc_port(read_settings(), "127.0.0.1", http)

    check(0)
    check(other)
    with pytest.raises(SettingsError, match="it is the port of HTTP"):
        check(http)
    with (
        socket.create_server(("127.0.0.1", other)),
        pytest.raises(SettingsError, match=r"in use.*to another port"),
    ):
        check(other)
    monkeypatch.setattr("service.cli.grpc_port.PACKAGE", "no_such_package")
    with pytest.raises(SettingsError, match="needs the extra 'grpc'"):
        check(other)


def test_off_by_default(quadrants_dir: Path, tmp_path: Path) -> None:
    with start_worker(quadrants_dir, tmp_path) as server:
        server.wait_ready()
        ports = {
            one.laddr.port
            for one in psutil.Process(server.pid).net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }
        assert ports == {server.port}
