"""Launcher, supervisor, worker and sandbox end together, and leave nothing.

Every test starts the service as users do, with temporary files in a folder of its own.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.contract.tree import PICTURE
from tests.contract.wire import read_metric
from tests.server import PATIENCE, LaunchedServer, start_server, wait_until
from tests.service.quadrants_model import write_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")


@contextlib.contextmanager
def start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> Iterator[LaunchedServer]:
    """Start a server whose temporary files are in `folder / "tmp"`."""
    write_model(folder / "models" / "quadrants" / "1" / "model.onnx")
    (folder / "tmp").mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` has it ignored
    try:
        with start_server(folder / "models", folder, **settings) as server:
            server.wait_ready()
            yield server
    finally:
        signal.signal(signal.SIGHUP, inherited)


def find_family(server: LaunchedServer) -> list[psutil.Process]:
    """Return supervisor, worker and sandbox helper, in this order."""
    family = [psutil.Process(server.pid)]
    while children := family[-1].children():
        family += children[:1]
    assert len(family) == 4
    return family[1:]


def find_listening(processes: list[psutil.Process]) -> set[int]:
    """Return the ports of TCP and UDP at which the processes listen."""
    return {
        connection.laddr.port
        for process in processes
        for connection in process.net_connections("inet")
        if not connection.raddr
    }


def wait_ended(processes: list[psutil.Process]) -> None:
    """Wait until none of the processes runs."""
    wait_until(lambda: not [one for one in processes if is_running(one)], 60)


def is_running(process: psutil.Process) -> bool:
    """Return whether a thread of the process runs.

    A process whose first thread has ended is called a zombie while the others still hold its files.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return bool(process.is_running() and not ended)
    return False


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_nothing_else_listens_and_a_killed_supervisor_leaves_no_process_no_file_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, monkeypatch, drain_seconds=600) as server:
        supervisor, *others = find_family(server)
        assert find_listening([psutil.Process(server.pid), supervisor, *others]) == {server.port}
        supervisor.kill()
        assert server.process.wait(PATIENCE) == 128 + signal.SIGKILL
        assert not [one for one in others if is_running(one)]
        assert is_free(server.port)
        assert "SIGKILL ended BentoML's parent process" in server.read_log()
        assert list((tmp_path / "tmp").iterdir()) == []


def test_if_launcher_and_supervisor_are_killed_the_workers_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, monkeypatch, drain_seconds=600) as server:
        family = find_family(server)
        server.process.kill()
        family[0].kill()
        server.process.wait()
        wait_ended(family)
        wait_until(lambda: is_free(server.port), 10)  # the last thread of a worker may still end


def test_a_killed_launcher_drains_the_workers_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, monkeypatch, drain_seconds=0.5) as server:
        family = find_family(server)
        server.process.kill()
        server.process.wait()
        wait_ended(family)
        server.wait_logged('"draining"')
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_replaced_worker_continues_the_sums_in_the_same_files_and_sighup_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, monkeypatch, model_poll_seconds=0.2, drain_seconds=0.5) as server:
        [folder] = (tmp_path / "tmp").glob("sightglass-*/prometheus_multiproc_dir")
        assert server.client.post("/gradcam", content=PICTURE).status_code == 200
        wait_until(lambda: read_metric(server, "sightglass_requests_total", route="/gradcam") == 1)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        _, worker, helper = find_family(server)
        worker.kill()
        wait_ended([worker, helper])
        wait_until(lambda: server.read_log().count('"event":"ready"') == 2)
        assert server.client.post("/gradcam", content=PICTURE).status_code == 200
        wait_until(lambda: read_metric(server, "sightglass_requests_total", route="/gradcam") == 2)
        assert read_metric(server, "sightglass_metrics_complete") == 1
        assert read_metric(server, "sightglass_attention_maps_total", model="quadrants") == 2
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == files

        shutil.rmtree(tmp_path / "models" / "quadrants")
        wait_until(lambda: not list(folder.glob("attention/*/*/*")))

        assert server.stop(signal.SIGHUP) == 0
        assert '"draining"' in server.read_log()
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_the_metrics_of_a_removed_model_go_from_the_files_of_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "models" / "other" / "1" / "model.onnx")
    settings = {"model_poll_seconds": 0.2, "workers": 2, "default_model": "quadrants"}
    with start(tmp_path, monkeypatch, **settings):
        [folder] = (tmp_path / "tmp").glob("sightglass-*/prometheus_multiproc_dir")

        def count_naming(name: str) -> int:
            return sum(name.encode() in path.read_bytes() for path in folder.glob("histogram_*.db"))

        wait_until(lambda: count_naming('"other"') == 2)
        shutil.rmtree(tmp_path / "models" / "other")
        wait_until(lambda: count_naming('"other"') == 0)
        assert count_naming('"quadrants"') == 2


@pytest.mark.slow  # 20 s pass until the hanging worker is noticed
def test_a_worker_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(tmp_path, monkeypatch) as server:
        _, worker, helper = find_family(server)
        worker.send_signal(signal.SIGSTOP)
        wait_ended([worker, helper])
        wait_until(lambda: server.read_log().count('"event":"ready"') == 2)
        assert server.client.post("/predict", content=PICTURE).status_code == 200
        server.wait_logged('"event":"worker hangs"')


@pytest.mark.slow  # a stopped worker ends only after the same 20 s
def test_ctrl_c_ends_a_service_whose_worker_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path, monkeypatch) as server:
        family = find_family(server)
        family[1].send_signal(signal.SIGSTOP)
        server.stop(signal.SIGINT)
        wait_ended(family)


@pytest.mark.slow
def test_a_full_disk_ends_no_worker_and_is_said_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file system, filled while the service runs, and full when the next worker starts."""
    disk = tmp_path / "tmp"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        with start(tmp_path, monkeypatch) as server:
            fill(disk / "filling")
            assert server.client.post("/gradcam", content=PICTURE).status_code == 200
            assert read_metric(server, "sightglass_metrics_complete") == 1  # its files are reserved
            [folder] = disk.glob("sightglass-*/prometheus_multiproc_dir")
            supervisor, worker, helper = find_family(server)
            supervisor.suspend()  # or the next worker opens its files before they are gone
            worker.kill()
            wait_ended([worker, helper])
            removed = sum(path.stat().st_blocks * 512 for path in folder.glob("*_1.db"))
            for path in folder.glob("*_1.db"):
                path.unlink()  # the next worker finds what a first one finds on a full disk
            shutil.rmtree(folder / "attention")
            wait_until(lambda: shutil.disk_usage(disk).free >= removed)  # nobody holds them open
            fill(disk / "filling too")
            assert shutil.disk_usage(disk).free == 0
            supervisor.resume()
            wait_until(lambda: server.read_log().count('"event":"ready"') == 2)
            assert server.client.post("/gradcam", content=PICTURE).status_code == 200
            assert read_metric(server, "sightglass_metrics_complete") == 0
            assert read_metric(server, "sightglass_requests_total", route="/gradcam") == 1
            lines = server.wait_events(lambda line: line["event"] == "metrics not shared")
            reasons = [line["reason"] for line in lines]
            assert all("No space left on device" in reason for reason in reasons)
            assert len(reasons) == 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
