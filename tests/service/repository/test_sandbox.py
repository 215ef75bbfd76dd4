"""A file runs in a process of its own first: its fault is reported, and the next file is tried."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.artifact.card import InvalidArtifact
from service.repository import sandbox as sandbox_module
from service.repository.sandbox import Sandbox
from tests.server import ROOT, wait_until
from tests.service.mutations import make_sandbox, mutate, validate
from tests.service.quadrants_model import write_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox exists on Linux only")
FILE = Path("models/any/1/model.onnx")
MUTATIONS = 150


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    while True:
        time.sleep(1)


def allocate_too_much() -> None:
    np.empty(2 * sandbox_module.MAX_MEMORY_BYTES, np.uint8)


def reject() -> None:
    raise InvalidArtifact("not like this")


def fail() -> None:
    raise RuntimeError("something else")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (crash, "crashes its engine (SIGSEGV)"),
        (hang, "did not finish its first images within 1 s"),
        (allocate_too_much, "needs more than the 256 MB of memory that it may take"),
        (reject, "not like this"),
        (fail, "RuntimeError: something else"),
        (kill, "was killed"),
        (leave, "without a result (exit code 3)"),
    ],
)
def test_each_fault_has_its_own_sentence_and_the_next_file_is_tried(
    attempt: Callable[[], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if attempt is hang:
        monkeypatch.setattr(sandbox_module, "MAX_SECONDS", 1)
    if attempt is allocate_too_much:
        monkeypatch.setattr(sandbox_module, "MAX_MEMORY_BYTES", 1 << 28)

    def run(path: Path) -> bytes:
        if path == FILE:
            attempt()
        return bytes(path)

    sandbox = Sandbox(run)
    with pytest.raises(InvalidArtifact) as rejected:
        sandbox.run(FILE)
    assert reason in str(rejected.value)
    assert sandbox.run(Path("good")) == b"good"


def test_a_result_may_be_larger_than_the_buffer_of_a_pipe() -> None:
    assert Sandbox(lambda _: bytes(1 << 22)).run(FILE) == bytes(1 << 22)


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_CPU"])
def test_a_lower_limit_of_the_process_is_kept(tmp_path: Path, limit: str) -> None:
    """Such as that of `ulimit -v`. No process may raise it again."""
    body = f"""
import resource
from pathlib import Path
from service.repository.sandbox import Sandbox

low = {{"RLIMIT_AS": 3 << 30, "RLIMIT_CPU": 30}}["{limit}"]
resource.setrlimit(resource.{limit}, (low, low))
print(Sandbox(lambda _: str(resource.getrlimit(resource.{limit})[0]).encode()).run(Path("any")))
"""
    completed = run_in_worker(tmp_path, body)
    assert completed.returncode == 0, completed.stderr
    low = {"RLIMIT_AS": 3 << 30, "RLIMIT_CPU": 30}[limit]
    assert completed.stdout.strip() == str(str(low).encode())


def test_a_helper_that_was_killed_is_replaced() -> None:
    def kill_helper(_: Path) -> bytes:
        os.kill(os.getppid(), signal.SIGKILL)
        return b""

    with pytest.raises(InvalidArtifact, match="was killed twice"):
        Sandbox(kill_helper).run(FILE)
    passing = Sandbox(lambda _: b"")
    passing.start()
    assert passing._helper
    passing._helper.close()
    passing.run(FILE)


def run_in_worker(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a script that stands for a worker process."""
    script = tmp_path / "worker.py"
    script.write_text(body)
    return subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_processes_hold_no_socket_of_the_worker_and_do_not_run_its_main_module(
    tmp_path: Path,
) -> None:
    body = """
import os, socket
from pathlib import Path
from service.repository.sandbox import Sandbox

def list_files(path):
    found = [os.readlink(f"/proc/{pid}/fd/{fd}")
             for pid in (os.getpid(), os.getppid()) for fd in os.listdir(f"/proc/{pid}/fd")
             if os.path.lexists(f"/proc/{pid}/fd/{fd}")]
    return "\\n".join(found).encode()

print("main", flush=True)
listener = socket.create_server(("127.0.0.1", 0))
print(os.readlink(f"/proc/self/fd/{listener.fileno()}"))
Path(__file__).with_name("files").write_bytes(Sandbox(list_files).run(Path("any")))
"""
    completed = run_in_worker(tmp_path, body)
    assert completed.returncode == 0, completed.stderr
    main, socket = completed.stdout.split()
    assert main == "main"
    assert socket.startswith("socket:")
    files = (tmp_path / "files").read_text().splitlines()
    assert files
    assert socket not in files


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit(0)"])
def test_no_process_outlives_the_worker_even_while_a_file_hangs(
    tmp_path: Path, ending: str
) -> None:
    body = f"""
import os, sys, threading, time
from pathlib import Path
from service.repository.sandbox import Sandbox

def hang(path):
    part = path.with_name("part")
    part.write_text(f"{{os.getpid()}} {{os.getppid()}}")
    part.rename(path)
    time.sleep(60)

path = Path(__file__).with_name("pids")
sandbox = Sandbox(hang)
sandbox.start()
threading.Thread(target=sandbox.run, args=(path,), daemon=True).start()
while not path.exists():
    time.sleep(0.01)
{ending}
"""
    run_in_worker(tmp_path, body)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that nobody reaps."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_randomly_damaged_files_are_valid_or_rejected_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    content, sandbox = path.read_bytes(), make_sandbox()
    assert validate(content, path, sandbox) == ""
    reasons = [validate(mutate(content, seed), path, sandbox) for seed in range(MUTATIONS)]
    rejected = [reason for reason in reasons if reason]
    assert len(rejected) > MUTATIONS / 2
    assert all(str(path) in reason for reason in rejected)
    assert validate(content, path, sandbox) == ""
