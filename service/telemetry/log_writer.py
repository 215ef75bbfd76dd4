"""Writes lines in a thread, so that a reader that stalls stops nobody else.

Lines are collected for a moment and written together: a thread that woke for each line would cost
as much as a small picture. If the reader falls far behind, new lines are dropped and counted. This
module does not know what the lines say.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

MAX_WAITING_BYTES = 4 << 20
COLLECT_SECONDS = 0.02
FLUSH_SECONDS = 1.0  # at most, for a reader that stalls
RETRY_SECONDS = 0.02  # if another process made the descriptor non-blocking
ATOMIC_BYTES = 4096  # written to a pipe as one, so that lines of several processes do not mix


class LogWriter:
    """A bounded queue of lines, and the thread that writes them to a file descriptor."""

    def __init__(
        self,
        descriptor: int,
        count_dropped: Callable[[], None],
        describe_dropped: Callable[[int], str],
    ) -> None:
        self._descriptor = descriptor
        self._count_dropped = count_dropped
        self._describe_dropped = describe_dropped
        self._thread: threading.Thread | None = None
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # a child has neither the thread nor a lock

    def add(self, line: str, *, is_urgent: bool = False) -> None:
        """Write a line soon, or drop it if too many wait. An urgent one is not held back."""
        encoded = line.encode() + b"\n"
        with self._lock:
            is_dropped = self._waiting_bytes + len(encoded) > MAX_WAITING_BYTES
            if is_dropped:
                self._dropped += 1
            else:
                self._lines.append(encoded)
                self._waiting_bytes += len(encoded)
        if is_dropped:
            self._count_dropped()
        if is_urgent:
            self._is_urgent.set()
        if not self._has_lines.is_set():
            self._has_lines.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Wait until all lines are written, or for a bounded time if the reader stalls."""
        self._is_urgent.set()
        with self._written:
            self._written.wait_for(lambda: not self._waiting_bytes, FLUSH_SECONDS)

    def _reset(self) -> None:
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0  # including those that are being written
        self._dropped = 0  # since the last line about it
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._has_lines = threading.Event()
        self._is_urgent = threading.Event()
        self._thread = None

    def _run(self) -> None:
        while True:
            self._has_lines.wait()
            self._is_urgent.wait(COLLECT_SECONDS)
            self._is_urgent.clear()
            self._has_lines.clear()  # before they are taken: a later line sets it again
            self._write_waiting()

    def _write_waiting(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, deque()
            dropped, self._dropped = self._dropped, 0
        for block in join_lines(lines):
            self._write(block)
            with self._written:
                self._waiting_bytes -= len(block)
                if not self._waiting_bytes:
                    self._written.notify_all()
        if dropped:  # they came after these lines, because those filled the queue
            self._write(self._describe_dropped(dropped).encode() + b"\n")

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        with suppress(OSError):  # nobody reads: there is nowhere to say so
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    time.sleep(RETRY_SECONDS)


def join_lines(lines: deque[bytes]) -> Iterator[bytes]:
    """Yield the lines in blocks that a pipe takes as one. Only a longer line has its own block."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if block and size + len(line) > ATOMIC_BYTES:
            yield b"".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield b"".join(block)
