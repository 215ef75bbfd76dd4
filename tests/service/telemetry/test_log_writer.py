"""Log lines are written in order and as one, and a reader that stalls stops nobody."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from service.telemetry.log_writer import ATOMIC_BYTES, MAX_WAITING_BYTES, LogWriter
from tests.server import wait_until


class Pipe:
    """A pipe, a writer at one end, and what was read from the other."""

    def __init__(self) -> None:
        self.reader, self.descriptor = os.pipe()
        self.content = b""
        self.dropped = 0
        self.writer = LogWriter(self.descriptor, self._count, lambda count: f"{count} missing")

    def _count(self) -> None:
        self.dropped += 1

    def start_reading(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while received := os.read(self.reader, 65_536):
            self.content += received

    @property
    def lines(self) -> list[str]:
        return self.content.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.start_reading()
    made.writer.flush()
    os.close(made.descriptor)


def test_lines_are_written_in_the_order_they_came(pipe: Pipe) -> None:
    pipe.start_reading()
    sent = [f"line {number}" for number in range(5000)]
    for number, line in enumerate(sent):
        pipe.writer.add(line, is_urgent=number % 1000 == 0)
    pipe.writer.flush()
    wait_until(lambda: len(pipe.lines) >= len(sent))
    assert pipe.lines == sent


def test_a_line_comes_out_without_a_flush(pipe: Pipe) -> None:
    pipe.start_reading()
    pipe.writer.add("alone")
    wait_until(lambda: pipe.lines == ["alone"])


def test_a_reader_that_stalls_delays_nobody_and_is_told_what_is_missing(pipe: Pipe) -> None:
    line = "x" * 999
    started = time.monotonic()
    for _ in range(2 * MAX_WAITING_BYTES // 1000):
        pipe.writer.add(line)
    assert time.monotonic() - started < 20
    assert pipe.dropped > 1000
    pipe.writer.flush()  # ends, although nobody reads
    kept = 2 * MAX_WAITING_BYTES // 1000 - pipe.dropped
    pipe.start_reading()
    pipe.writer.flush()
    pipe.writer.add("next")
    wait_until(lambda: pipe.lines[-1:] == ["next"], seconds=20)
    missing = [int(text.split()[0]) for text in pipe.lines if text.endswith("missing")]
    assert pipe.lines.count(line) == kept
    assert sum(missing) == pipe.dropped
    assert len(missing) <= 2


def test_lines_are_written_in_blocks_that_a_pipe_takes_as_one(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[int] = []
    write = os.write

    def record(descriptor: int, content: bytes) -> int:
        blocks.append(len(content))
        return write(descriptor, content)

    monkeypatch.setattr("os.write", record)
    pipe.start_reading()
    for _ in range(1000):
        pipe.writer.add("x" * 300)
    pipe.writer.add("y" * 10_000)
    pipe.writer.flush()
    assert [size for size in blocks if size > ATOMIC_BYTES] == [10_001]
    assert len(blocks) < 200


def test_a_closed_reader_ends_nothing() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = LogWriter(descriptor, lambda: None, str)
    for _ in range(3):
        writer.add("nobody reads")
        writer.flush()
    os.close(descriptor)


def test_a_forked_child_writes_its_own_lines(pipe: Pipe) -> None:
    pipe.start_reading()
    pipe.writer.add("parent")
    pipe.writer.flush()
    if (child := os.fork()) == 0:
        pipe.writer.add("child")
        pipe.writer.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: sorted(pipe.lines) == ["child", "parent"])
