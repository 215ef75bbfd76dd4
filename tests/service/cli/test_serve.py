"""The service starts and stops as a person at a terminal or a container engine asks."""

import errno
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.cli.ready import ReadyMessage, make_url
from service.cli.serve import LaunchError, check_address, make_folder
from tests.server import PATIENCE, ROOT, LaunchedServer, find_free_port, start_server, wait_until
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


@pytest.mark.slow
def test_ctrl_c_while_draining_ends_the_service_at_once(slow_draining: LaunchedServer) -> None:
    slow_draining.process.send_signal(signal.SIGTERM)
    wait_until(lambda: slow_draining.client.get("/readyz").status_code == 503)
    assert slow_draining.client.post("/predict", content=encode(light(1))).status_code == 200
    assert slow_draining.stop(signal.SIGINT) == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_ready_message_has_a_curl_command_that_works(
    launched: LaunchedServer, tmp_path: Path
) -> None:
    message = launched.wait_logged("-o heatmap.png\n").partition("is ready on")[2].splitlines()
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


@pytest.mark.parametrize("port", ["80000", "0", "-1", "many", "65536"])
def test_a_port_that_is_none_is_reported_in_one_sentence(port: str) -> None:
    run = run_serve(f"--port={port}")
    assert run.returncode == 1
    assert run.stderr.strip() == (
        f'The port must be an integer from 1 to 65535, got "{port}". '
        "Choose another one, for example: make serve PORT=3001"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_of_another_machine_is_reported_in_one_sentence(host: str) -> None:
    run = run_serve("--host", host)
    assert run.returncode == 1
    assert f"The service can't listen on {host}:3000" in run.stderr
    assert "make serve HOST=127.0.0.1" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_without_a_temporary_folder_the_start_ends_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with (
        pytest.raises(LaunchError, match=r"No space left on device.*TMPDIR=/var/tmp"),
        make_folder(),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("localhost", "http://localhost:3000"),
        ("::1", "http://[::1]:3000"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:3000"),
    ],
)
def test_the_url_is_one_that_curl_takes(host: str, url: str) -> None:
    assert make_url(host, 3000) == url
    assert shlex.split(str(ReadyMessage(url, 1, True)).splitlines()[2])[-1] == f"{url}/predict"


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_the_service_listens_on_an_ipv6_address_and_on_a_name(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    assert check_address(host, find_free_port()) in ("::1", "127.0.0.1")


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as listener:
        return listener.connect_ex(("::1", 9)) != errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DEVICE", "tpu", "'auto', 'cpu', 'openvino' or 'cuda'"),
        ("WORKERS", "0", "greater than 0 or 'auto'"),
        ("MAX_QUEUE_SIZE", "many", "a valid integer"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_an_invalid_setting_stops_the_start_with_one_sentence(
    name: str, value: str, allowed: str
) -> None:
    run = run_serve("--port", str(find_free_port()), **{f"SIGHTGLASS_{name}": value})
    assert run.returncode == 1
    assert run.stderr.strip() == f'SIGHTGLASS_{name} must be {allowed}, got "{value}".'


def test_cuda_without_a_gpu_stops_the_start_and_names_what_is_missing() -> None:
    started = time.monotonic()
    port = str(find_free_port())
    run = run_serve("--port", port, SIGHTGLASS_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
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
