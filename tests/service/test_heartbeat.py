"""The watch over heartbeats kills a child that is silent for long, and no other process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.heartbeat import MAX_SILENT_LOOKS, Watch


@pytest.fixture
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    """A child that only sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def look(watch: Watch, times: int) -> None:
    for _ in range(times):
        watch.look()


def test_a_silent_worker_is_killed_after_ten_looks(
    worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    (tmp_path / str(worker.pid)).touch()
    watch = Watch(tmp_path)
    look(watch, MAX_SILENT_LOOKS)
    assert worker.poll() is None
    look(watch, 1)
    assert worker.wait(60) == -signal.SIGKILL
    look(watch, 1)
    assert list(tmp_path.iterdir()) == []  # the file of a dead worker is removed


def test_a_worker_with_a_heartbeat_is_never_killed(
    worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    path = tmp_path / str(worker.pid)
    path.touch()
    watch = Watch(tmp_path)
    for beat in range(3):
        look(watch, MAX_SILENT_LOOKS)
        os.utime(path, (beat, beat))  # a beat counts whatever time it names
    look(watch, MAX_SILENT_LOOKS)
    assert worker.poll() is None


def test_a_process_of_somebody_else_is_never_killed(tmp_path: Path) -> None:
    (tmp_path / str(os.getppid())).touch()
    look(Watch(tmp_path), 2 * MAX_SILENT_LOOKS)
    assert list(tmp_path.iterdir()) == []
