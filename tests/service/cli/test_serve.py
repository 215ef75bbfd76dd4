"""The service starts and stops as a person at a terminal or a container engine asks."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.server import PATIENCE, ROOT, LaunchedServer, start_server, wait_until
from tests.service.quadrants_model import encode, light


@pytest.fixture
def slow_draining(quadrants_dir: Path, tmp_path: Path) -> Iterator[LaunchedServer]:
    """A server that would drain for longer than any test here waits."""
    with start_server(quadrants_dir, tmp_path, drain_seconds=600) as server:
        server.wait_ready()
        yield server


def run_serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "serve", *arguments]
    own = os.environ | environment
    return subprocess.run(
        command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=PATIENCE
    )


def test_ctrl_c_ends_the_service_without_draining_and_leaves_no_process(
    slow_draining: LaunchedServer,
) -> None:
    pids = [slow_draining.process.pid, *slow_draining.find_workers()]
    assert slow_draining.stop(signal.SIGINT) == 0
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_ctrl_c_while_draining_ends_the_service_at_once(slow_draining: LaunchedServer) -> None:
    slow_draining.process.send_signal(signal.SIGTERM)
    wait_until(lambda: slow_draining.client.get("/readyz").status_code == 503)
    assert slow_draining.client.post("/predict", content=encode(light(1))).status_code == 200
    assert slow_draining.stop(signal.SIGINT) == 0


def test_the_server_ends_if_its_launcher_is_killed(quadrants_dir: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux signals a child when its parent dies")
    with start_server(quadrants_dir, tmp_path, drain_seconds=0) as server:
        server.wait_ready()
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(child.is_running() for child in children))


def test_the_ready_message_has_a_curl_command_that_works(
    launched: LaunchedServer, tmp_path: Path
) -> None:
    wait_until(lambda: "-o heatmap.png\n" in launched.read_log(), describe=launched.read_log)
    message = launched.read_log().partition("is ready on")[2].splitlines()
    command = next(line for line in message if "/predict" in line)
    (tmp_path / "picture.jpg").write_bytes(encode(light(1)))
    run = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert b'"label":"top right"' in run.stdout


def test_a_port_in_use_is_reported_in_one_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        run = run_serve("--port", str(port))
    assert run.returncode == 1
    assert f"The service can't listen on 127.0.0.1:{port}" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("WORKERS", "0", "greater than 0 or 'auto'"),
        ("MAX_QUEUE_SIZE", "many", "a valid integer"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_an_invalid_setting_stops_the_start_with_one_sentence(
    name: str, value: str, allowed: str
) -> None:
    run = run_serve("--port", "0", **{f"SIGHTGLASS_{name}": value})
    assert run.returncode == 1
    assert run.stderr.strip() == f'SIGHTGLASS_{name} must be {allowed}, got "{value}".'


def test_cuda_without_a_gpu_stops_the_start_and_names_what_is_missing() -> None:
    started = time.monotonic()
    run = run_serve("--port", "0", SIGHTGLASS_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    if run.returncode == 0:
        pytest.skip(f"this machine has a GPU ({time.monotonic() - started:.0f} s)")
    assert "SIGHTGLASS_DEVICE=cuda" in run.stderr


def test_the_server_loads_neither_torch_nor_opencv(launched: LaunchedServer) -> None:
    [worker] = launched.find_workers()
    maps = Path(f"/proc/{worker}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    libraries = maps.read_text()
    assert "onnxruntime" in libraries
    assert "libtorch" not in libraries
    assert "cv2" not in libraries
