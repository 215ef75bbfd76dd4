"""Starting and stopping, as a person at a terminal or a container engine would."""

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

from tests.server import PATIENCE, ROOT, LaunchedServer, Server, start_server, wait_until
from tests.service.quadrants import encode, light


@pytest.fixture
def patient(quadrants_dir: Path, tmp_path: Path) -> Iterator[LaunchedServer]:
    """A server that would drain for longer than any of these tests waits."""
    with start_server(quadrants_dir, tmp_path, drain_seconds=600) as server:
        server.wait_ready()
        yield server


def run_serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "serve", *arguments]
    own = os.environ | environment
    return subprocess.run(
        command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=PATIENCE
    )


def test_ctrl_c_ends_it_without_draining_and_leaves_no_process(patient: LaunchedServer) -> None:
    family = [patient.process.pid, *patient.find_workers()]
    assert patient.stop(signal.SIGINT) == 0
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in family))


def test_ctrl_c_while_draining_ends_it_at_once(patient: LaunchedServer) -> None:
    patient.process.send_signal(signal.SIGTERM)
    wait_until(lambda: patient.client.get("/readyz").status_code == 503)
    assert patient.client.post("/predict", content=encode(light(1))).status_code == 200
    assert patient.stop(signal.SIGINT) == 0


def test_a_launcher_killed_without_a_word_takes_the_server_along(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child of its parent's death")
    with start_server(quadrants_dir, tmp_path, drain_seconds=0) as server:
        server.wait_ready()
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(child.is_running() for child in family))


def test_the_ready_line_comes_with_a_curl_that_works(launched: Server, tmp_path: Path) -> None:
    wait_until(lambda: "-o heatmap.png\n" in launched.read_log(), describe=launched.read_log)
    told = launched.read_log().partition("is ready on")[2].splitlines()
    line = next(line for line in told if "/predict" in line)
    (tmp_path / "picture.jpg").write_bytes(encode(light(1)))
    ran = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert b'"label":"top right"' in ran.stdout


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ran = run_serve("--port", str(port))
    assert ran.returncode == 1
    assert f"Can't listen on 127.0.0.1:{port}" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "wish"),
    [
        ("DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("WORKERS", "0", "greater than 0 or 'auto'"),
        ("MAX_QUEUE_SIZE", "many", "a valid integer"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(name: str, value: str, wish: str) -> None:
    ran = run_serve("--port", "0", **{f"SIGHTGLASS_{name}": value})
    assert ran.returncode == 1
    assert ran.stderr.strip() == f"SIGHTGLASS_{name}={value} can't be: it should be {wish}."


def test_cuda_without_a_gpu_refuses_to_start_and_names_what_is_missing() -> None:
    started = time.monotonic()
    ran = run_serve("--port", "0", SIGHTGLASS_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    if ran.returncode == 0:
        pytest.skip(f"there is a GPU here ({time.monotonic() - started:.0f} s)")
    assert "SIGHTGLASS_DEVICE=cuda can't be" in ran.stderr


def test_the_server_has_no_torch_and_no_opencv_in_it(launched: Server) -> None:
    [worker] = launched.find_workers()
    maps = Path(f"/proc/{worker}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    libraries = maps.read_text()
    assert "onnxruntime" in libraries
    assert "libtorch" not in libraries
    assert "cv2" not in libraries
