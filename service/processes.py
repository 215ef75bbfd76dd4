"""Starts processes at any time, although this process has threads by then. Linux only.

A process that has threads must not fork. So a helper is forked while there is only one thread, and
it forks the others on request. All of them end with this process. Knows pipes and signals; what a
process does is passed in.
"""

import atexit
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from multiprocessing.process import BaseProcess
from threading import Lock

from service.machine import end_with_parent

NUMBER_BYTES = 4
HELPER_SECONDS = 10.0  # in which the helper must answer; it takes milliseconds
FORK = 0  # the number that asks for a new process; any other names the process to kill

CPU_CLOCK = 2  # with the process in the higher bits: Linux's clock of the CPU time of that process

Run = Callable[[Connection], None]


@dataclass(frozen=True)
class Child:
    """A process, and our end of the pipe to it."""

    connection: Connection
    pid: int

    def is_waiting(self) -> bool:
        """Whether the process is alive and has sent nothing that was not read."""
        try:
            return not self.connection.poll()
        except OSError:
            return False

    def measure_cpu_seconds(self) -> float:
        """Return the CPU time that the process has used; 0 if it has ended."""
        try:
            return time.clock_gettime(~self.pid << 3 | CPU_CLOCK)
        except OSError:
            return 0.0


class Forks:
    """Processes that each run `run(pipe)`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._helper: socket.socket | None = None
        self._process: BaseProcess | None = None
        self._lock = Lock()

    def start(self) -> None:
        """Fork the helper, preferably while this process has only one thread."""
        ours, theirs = socket.socketpair()
        gc.freeze()  # keeps memory pages shared: the garbage collector no longer writes to them
        self._process = self._make_helper(theirs)
        self._process.start()
        atexit.register(self._process.kill)  # before multiprocessing waits for it to end
        theirs.close()
        self._helper = ours

    def _make_helper(self, theirs: socket.socket) -> BaseProcess:
        return get_context("fork").Process(target=run_helper, args=(theirs, self._run))

    def fork(self) -> Child:
        """Start a process. A helper that was killed, or does not answer, is replaced.

        Raises:
            OSError: no process can be started.
        """
        with self._lock:
            try:
                return self._fork()
            except OSError:
                assert self._process
                self._process.kill()
                self.start()
                return self._fork()

    def kill(self, child: Child) -> None:
        """End a process at once, whatever it does."""
        with self._lock, contextlib.suppress(OSError):
            assert self._helper
            self._helper.sendall(child.pid.to_bytes(NUMBER_BYTES))

    def _fork(self) -> Child:
        assert self._helper
        self._helper.settimeout(HELPER_SECONDS)
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._helper, [FORK.to_bytes(NUMBER_BYTES)], [theirs.fileno()])
        pid = int.from_bytes(self._helper.recvmsg(NUMBER_BYTES)[0])
        if pid == 0:
            ours.close()
            raise OSError("no process can be started")
        return Child(Connection(ours.detach()), pid)


def run_helper(worker: socket.socket, run: Run) -> None:
    """In the helper: fork and kill as the worker asks, until it ends."""
    become_child(worker.fileno())
    children: dict[int, ForkProcess] = {}
    with contextlib.suppress(OSError):
        while True:
            message, descriptors, _, _ = socket.recv_fds(worker, NUMBER_BYTES, 1)
            if not message:
                return
            if number := int.from_bytes(message):
                if child := children.pop(number, None):
                    child.kill()
                    child.join()
                continue
            child = get_context("fork").Process(target=run_child, args=(descriptors[0], run))
            try:
                child.start()
            except OSError:
                worker.sendall(FORK.to_bytes(NUMBER_BYTES))
                continue
            finally:
                os.close(descriptors[0])
            assert child.pid
            children[child.pid] = child
            worker.sendall(child.pid.to_bytes(NUMBER_BYTES))


def run_child(descriptor: int, run: Run) -> None:
    """In a process: run what it is for, until the worker closes its end of the pipe."""
    become_child(descriptor)
    with contextlib.suppress(EOFError, OSError):
        run(Connection(descriptor))


def become_child(descriptor: int) -> None:
    """Keep this descriptor and the standard ones, and end with the parent alone."""
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):  # a draining worker still needs its processes
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, descriptor)  # the worker's sockets must close when the worker closes them
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
