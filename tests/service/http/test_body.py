"""A long body gives its memory back part by part."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from service.http.body import MIN_LONG_BYTES, Body, BodyBuffer, Part, release
from service.http.multipart_body import read_parts

CHUNK = bytes(range(256)) * 256


def collect(chunks: Iterable[bytes], most: int) -> Body:
    buffer = BodyBuffer(most)
    for chunk in chunks:
        buffer.add(chunk)
    return asyncio.run(buffer.finish())


@pytest.mark.parametrize("count", [1, 3, MIN_LONG_BYTES // len(CHUNK), 40])
@pytest.mark.parametrize("spare", [0, 1, 5_000_000])
def test_a_body_is_its_chunks_in_order(count: int, spare: int) -> None:
    body = collect([CHUNK] * count, count * len(CHUNK) + spare)
    assert body[:] == CHUNK * count


@pytest.mark.skipif(sys.platform != "linux", reason="bodies are held as a whole elsewhere")
def test_the_parts_of_a_form_do_not_take_memory_besides_its_body() -> None:
    picture = bytes(8_000_000)
    head = b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\n'
    form = b"".join([(head + picture + b"\r\n") * 8, b"--x--\r\n"])
    body = collect((form[start : start + 65_536] for start in range(0, len(form), 65_536)), 1 << 26)
    del form
    before, most = read_resident_bytes(), 0
    parts = []
    for _, content in read_parts(body, "x", 10_000_000):
        parts.append(content)
        most = max(most, read_resident_bytes() - before)
    assert parts == [picture] * 8
    assert most < 20_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="bodies are held as a whole elsewhere")
def test_only_what_lies_within_a_part_is_released() -> None:
    size = 2 * MIN_LONG_BYTES
    body = collect([b"a" * size], size)
    release(body, 100, 3000)
    first, rest = Part(body, 5000, size).cut(1_000_000)
    first.release()
    assert body[: first.begin] == b"a" * 5000
    assert rest.view == b"a" * len(rest)
    assert body[first.begin : first.end].count(b"a") < 2 * 4096


def read_resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
