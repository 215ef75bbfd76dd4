"""Runs code on a model file in a process that may crash, hang or run out of memory.

An engine can crash on a graph, and a crashed process cannot report an error. So the worker forks
a helper process before it has threads, and the helper forks one child for each file. Linux only:
on other systems the code runs in this process. Knows processes and pipes. What runs in the child
is passed in, and what it returns are bytes.

The standard library's forkserver is not used. It shares no memory pages with the worker, imports
everything again at each start, and runs the worker's main module again in each child.
"""

import atexit
import contextlib
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

from service.artifact.card import InvalidArtifact
from service.errors import make_printable
from service.machine import end_with_parent, make_expendable
from service.repository.memory import MEGABYTE, count_available_bytes, limit_memory

MAX_SECONDS = 120  # for one file
MAX_CPU_SECONDS = 2 * MAX_SECONDS
MAX_MEMORY_BYTES = 4 << 30  # for one file, on top of what the process already has
MIN_MEMORY_BYTES = 256 << 20  # even if less is available
GRACE_SECONDS = 1.0  # from the end of its answer to the end of a process
MAX_REASON_BYTES = 4000
MAX_RESULT_BYTES = 256 << 20  # a card, and two pictures of the largest size
OUT_OF_MEMORY = re.compile("bad_alloc|failed to allocate", re.IGNORECASE)  # from native code
SEPARATOR = b"\0"  # no path has it
DONE, FAULT = b"+", b"-"  # the first byte of what a child sends

Attempt = Callable[..., bytes]  # of the path of a file, and words that say what to do with it


class Sandbox:
    """Runs `attempt(path, …)` on one file at a time; it raises if the file cannot be served."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._helper: Connection | None = None

    def start(self) -> None:
        """Fork the helper process, preferably while this process has only one thread."""
        if sys.platform != "linux":
            return
        self._helper, theirs = Pipe()
        gc.freeze()  # keeps memory pages shared: the garbage collector no longer writes to them
        helper = get_context("fork").Process(
            target=run_helper, args=(theirs, self._helper, self._attempt)
        )
        helper.start()
        atexit.register(helper.kill)  # before multiprocessing waits for it to end
        theirs.close()

    def run(self, path: Path, *words: str) -> bytes:
        """Return what the attempt returned for this file and these words.

        Raises:
            InvalidArtifact: the file has a fault; the message says which.
        """
        if sys.platform != "linux":
            return self._attempt(path, *words)
        for _ in range(2):  # a helper that was killed is replaced once
            if self._helper is None:
                self.start()
            assert self._helper
            try:
                self._helper.send_bytes(SEPARATOR.join(map(os.fsencode, [str(path), *words])))
                return unpack(self._helper.recv_bytes())
            except (EOFError, OSError):
                self._helper = None
        raise InvalidArtifact(f"{path} cannot be tested: the sandbox process was killed twice.")


def run_helper(pipe: Connection, parent_end: Connection, attempt: Attempt) -> None:
    """In the helper: try each file that the pipe names, until the worker closes its end."""
    parent_end.close()
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, pipe.fileno())  # the worker's sockets must close when the worker closes them
    os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, *words = map(os.fsdecode, pipe.recv_bytes().split(SEPARATOR))
            run = partial(attempt, Path(name), *words)
            pipe.send_bytes(run_in_child(name, run, MAX_SECONDS))


def run_in_child(name: str, attempt: Callable[[], bytes], seconds: float) -> bytes:
    """Run `attempt` in a child process with limits. `unpack` its answer; `name` is for sentences.

    Linux only.
    """
    reader, writer = Pipe(duplex=False)
    child = get_context("fork").Process(target=run_child, args=(name, attempt, writer))
    try:
        child.start()
    except OSError as exc:
        return FAULT + f"{name} cannot be tested: no process can be started: {exc}.".encode()
    finally:
        writer.close()
    with reader, contextlib.suppress(EOFError, OSError):
        if reader.poll(seconds):
            answer = reader.recv_bytes(MAX_RESULT_BYTES)
            child.join()
            return answer
    return FAULT + describe_end(name, child, seconds).encode()


def describe_end(name: str, child: ForkProcess, seconds: float) -> str:
    """Wait for a child that gave no answer, or kill it; return what happened to it."""
    child.join(GRACE_SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        return f"{name} did not finish its first images within {seconds} s."
    if child.exitcode >= 0:
        return f"{name} ended the sandbox without a result (exit code {child.exitcode})."
    number = signal.Signals(-child.exitcode)
    if number == signal.SIGKILL:
        return f"{name} was killed at its first images, probably because memory ran out."
    if number == signal.SIGXCPU:
        return f"{name} took too much CPU time for its first images."
    return f"{name} crashes its engine ({number.name}) at its first images."


def unpack(answer: bytes) -> bytes:
    """Return what the attempt returned.

    Raises:
        InvalidArtifact: there is a fault instead.
    """
    if not answer.startswith(DONE):
        raise InvalidArtifact(answer[1:].decode(errors="replace"))
    return answer[1:]


def run_child(name: str, attempt: Callable[[], bytes], writer: Connection) -> None:
    """In the child: set the limits, run `attempt`, report the result."""
    writer.send_bytes(report(name, attempt))
    os._exit(0)  # what the graph did to this process must not run as well


def report(name: str, attempt: Callable[[], bytes]) -> bytes:
    """Return what the attempt returned, or why the file cannot be served."""
    memory = 0
    try:
        memory = set_limits()
        return DONE + attempt()
    except Exception as exc:
        if isinstance(exc, MemoryError) or OUT_OF_MEMORY.search(str(exc)):
            limit = f"{memory // MEGABYTE} MB of memory"
            reason = f"{name} needs more than the {limit} that it may take for its first images."
        elif isinstance(exc, InvalidArtifact):
            reason = str(exc)
        else:
            reason = f"{name} cannot be tested: {type(exc).__name__}: {exc}."
    # It may quote the file, and a person reads it at a terminal.
    printable = make_printable(" ".join(reason.split()))
    return FAULT + printable.encode()[:MAX_REASON_BYTES]


def set_limits() -> int:
    """In the child: limit memory and CPU time. Return how many bytes of memory it may take."""
    end_with_parent(signal.SIGKILL)
    available = max(MIN_MEMORY_BYTES, count_available_bytes())
    memory = limit_memory(min(MAX_MEMORY_BYTES, available))
    limit_cpu_seconds(MAX_CPU_SECONDS)
    make_expendable()
    return memory


def limit_cpu_seconds(seconds: int) -> None:
    """Limit the CPU time of this process. A lower limit that it already has is kept."""
    import resource  # exists on Unix only

    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    old = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_CPU, (min([seconds, *old]), hard))
