"""Runs a model file for the first time in a process that may crash, hang or run out of memory.

onnxruntime can crash on a graph, and a crashed process cannot report an error. So the worker forks
a helper process before it has threads, and the helper forks one child for each file. Linux only:
on other systems files are loaded without this test. Knows processes and pipes. What runs in the
child is passed in.

The standard library's forkserver is not used. It shares no memory pages with the worker, imports
everything again at each start, and runs the worker's main module again in each child.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

from service.artifact.card import InvalidArtifact
from service.machine import end_with_parent

MAX_SECONDS = 60  # for one file
MAX_MEMORY_BYTES = 4 << 30  # for one file, on top of what the process already has
MAX_REASON_BYTES = 4000  # less than the buffer of a pipe, so that the child never waits
VALID = "valid"

TryModel = Callable[[Path, str], None]


class Sandbox:
    """Runs one file at a time; `try_model(path, sha256)` raises if the file cannot be served."""

    def __init__(self, try_model: TryModel) -> None:
        self._try_model = try_model
        self._helper: Connection | None = None

    def start(self) -> None:
        """Fork the helper process, preferably while this process has only one thread."""
        if sys.platform != "linux":
            return
        self._helper, theirs = Pipe()
        gc.freeze()  # keeps memory pages shared: the garbage collector no longer writes to them
        helper = get_context("fork").Process(
            target=run_helper, args=(theirs, self._helper, self._try_model)
        )
        helper.start()
        atexit.register(helper.kill)  # before multiprocessing waits for it to end
        theirs.close()

    def validate(self, path: Path, sha256: str) -> None:
        """Return if the file ran without a fault.

        Raises:
            InvalidArtifact: it did not; the message says why.
        """
        if sys.platform != "linux":
            return
        for _ in range(2):  # a helper that was killed is replaced once
            if self._helper is None:
                self.start()
            assert self._helper
            try:
                self._helper.send_bytes(f"{sha256} {path}".encode(errors="surrogateescape"))
                reason = self._helper.recv_bytes().decode()
            except (EOFError, OSError):
                self._helper = None
                continue
            if reason:
                raise InvalidArtifact(reason)
            return
        raise InvalidArtifact(f"{path} cannot be tested: the sandbox process was killed twice.")


def run_helper(pipe: Connection, parent_end: Connection, try_model: TryModel) -> None:
    """In the helper: try each file that the pipe names, until the worker closes its end."""
    parent_end.close()
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, pipe.fileno())  # the worker's sockets must close when the worker closes them
    os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    with contextlib.suppress(EOFError, OSError):
        while True:
            sha256, _, name = pipe.recv_bytes().decode(errors="surrogateescape").partition(" ")
            path = Path(name)
            reason = find_fault(path, partial(try_model, path, sha256))
            pipe.send_bytes(reason.encode(errors="replace"))


def find_fault(path: Path, attempt: Callable[[], None]) -> str:
    """Run `attempt` in a child process; return why the file is invalid, or nothing."""
    reader, writer = Pipe(duplex=False)
    child = get_context("fork").Process(target=run_child, args=(path, attempt, writer))
    child.start()
    writer.close()
    with reader:
        child.join(MAX_SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
            return f"{path} did not finish its first images within {MAX_SECONDS} s."
        if child.exitcode < 0:
            return f"{path} {describe_signal(signal.Signals(-child.exitcode))}."
        try:
            reason = reader.recv_bytes(MAX_REASON_BYTES).decode(errors="replace")
        except (EOFError, OSError):
            return f"{path} ended the sandbox without a result (exit code {child.exitcode})."
    return "" if reason == VALID else reason


def run_child(path: Path, attempt: Callable[[], None], writer: Connection) -> None:
    """In the child: set the limits, run `attempt`, report the result."""
    set_limits()
    writer.send_bytes(report(path, attempt).encode(errors="replace")[:MAX_REASON_BYTES])
    os._exit(0)  # what the graph did to this process must not run as well


def report(path: Path, attempt: Callable[[], None]) -> str:
    """Return `VALID`, or why the file cannot be served."""
    try:
        attempt()
    except InvalidArtifact as exc:
        return str(exc)
    except MemoryError:
        return f"{path} needs more than {MAX_MEMORY_BYTES} bytes of memory for its first images."
    except Exception as exc:
        return f"{path} cannot be tested: {type(exc).__name__}: {exc}."
    return VALID


def describe_signal(number: signal.Signals) -> str:
    """Why a child that a signal ended did not finish."""
    if number == signal.SIGKILL:
        return "was killed at its first images, probably because memory ran out"
    return f"crashes onnxruntime ({number.name}) at its first images"


def set_limits() -> None:
    """In the child: limit memory, be the first to be killed if memory is short, print nothing."""
    import resource  # exists on Unix only

    end_with_parent(signal.SIGKILL)  # only the helper limits the time
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
