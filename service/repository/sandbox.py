"""A model file's first run, in a process of its own that may crash, hang or burst of it.

onnxruntime can die of a graph, and a dead process can say no sentence. So a nursery is
forked off before the worker has threads, and forks a child for each file: on Linux; elsewhere files
are loaded without a trial. Knows processes and pipes; what is tried is handed in.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from service.artifact.card import InvalidArtifact
from service.machine import end_with_parent

SECONDS = 60  # until a trial must be over
MEMORY_BYTES = 4 << 30  # that a trial may take on top of what the process has
VERDICT_BYTES = 4000  # fewer than a pipe holds
FIT = "fit"
FATES = {
    signal.SIGALRM: f"is not done with its first pictures after {SECONDS} s",
    signal.SIGKILL: "was killed at its first pictures, probably for want of memory",
}

Attempt = Callable[[Path, str], None]


class Sandbox:
    """Tries files, one at a time; `attempt(path, sha256)` raises where one is unfit."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._nursery: Connection | None = None

    def start(self) -> None:
        """Fork the nursery off, at best while this process has one thread."""
        if sys.platform != "linux":
            return
        self._nursery, theirs = Pipe()
        gc.freeze()  # pages that no collection touches stay shared
        if os.fork() == 0:
            self._nursery.close()
            try:
                keep_nursery(theirs, self._attempt)
            finally:
                os._exit(0)
        theirs.close()

    def validate(self, path: Path, sha256: str) -> None:
        """Return if the file came through its trial.

        Raises:
            BadArtefact: it did not, for the reason in its message.
        """
        if sys.platform != "linux":
            return
        for _ in range(2):  # a nursery that was killed is forked again
            if self._nursery is None:
                self.start()
            assert self._nursery
            try:
                self._nursery.send_bytes(f"{sha256} {path}".encode(errors="surrogateescape"))
                verdict = self._nursery.recv_bytes().decode()
            except (EOFError, OSError):
                self._nursery = None
                continue
            if verdict:
                raise InvalidArtifact(verdict)
            return
        raise InvalidArtifact(f"{path} can't be tried: the process for trials does not live.")


def keep_nursery(pipe: Connection, attempt: Attempt) -> None:
    """Try what the pipe asks for, until nobody holds its other end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, pipe.fileno())
    os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    with contextlib.suppress(EOFError, OSError):
        while True:
            sha256, _, name = pipe.recv_bytes().decode(errors="surrogateescape").partition(" ")
            path = Path(name)
            pipe.send_bytes(try_apart(path, partial(attempt, path, sha256)).encode())


def try_apart(path: Path, attempt: Callable[[], None]) -> str:
    """Run `attempt` in a child; why the file is unfit, or nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fence()
            os.write(writer, tell(path, attempt).encode(errors="replace")[:VERDICT_BYTES])
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        verdict = file.read().decode(errors="replace")
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        fate = FATES.get(number, f"crashes onnxruntime ({number.name}) at its first pictures")
        return f"{path} {fate}."
    return "" if verdict == FIT else verdict or f"{path} ended its trial without a word."


def tell(path: Path, attempt: Callable[[], None]) -> str:
    """`FIT`, or why not."""
    try:
        attempt()
    except InvalidArtifact as fault:
        return str(fault)
    except MemoryError:
        return f"{path} takes more than {MEMORY_BYTES} bytes of memory at its first pictures."
    except Exception as fault:
        return f"{path} can't be tried: {type(fault).__name__}: {fault}."
    return FIT


def fence() -> None:
    """In the child: bounds of time and memory, silence, and first to go when memory is short."""
    import resource  # of Unix alone

    end_with_parent(signal.SIGKILL)
    signal.alarm(SECONDS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
