"""A request's body in memory. A long one goes back to the system part by part, once it was read.

So a body and what is made of it, such as its pictures, do not both take memory. This module knows
no formats. On other systems than Linux, a body is held as a whole until its end.
"""

import asyncio
import mmap
import sys
from dataclasses import dataclass
from typing import Self

Body = bytes | mmap.mmap

MIN_LONG_BYTES = 1 << 20  # a shorter body is not worth memory of its own
MIN_THREADED_BYTES = 1 << 20  # joining more takes longer than starting a thread's work


@dataclass(frozen=True, repr=False)
class Part:
    """The bytes of a body from `begin` until before `end`."""

    body: Body
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def view(self) -> memoryview:
        """The bytes, without a copy."""
        return memoryview(self.body)[self.begin : self.end]

    def cut(self, size: int) -> tuple[Self, Self]:
        """Return the first `size` bytes, and the others."""
        middle = self.begin + size
        kind = type(self)
        return kind(self.body, self.begin, middle), kind(self.body, middle, self.end)

    def release(self) -> None:
        """Give the memory back. Nothing must read these bytes afterwards."""
        release(self.body, self.begin, self.end)


class BodyBuffer:
    """Collects the chunks of a body."""

    def __init__(self, most: int) -> None:
        """`most` is how many bytes may come: what was announced, or the limit."""
        self.size = 0
        self._most = most
        self._chunks: list[bytes] = []
        self._mapped: mmap.mmap | None = None

    def add(self, chunk: bytes) -> None:
        """Add a chunk. There must not be more than `most` bytes in all."""
        begin, self.size = self.size, self.size + len(chunk)
        if self._mapped is not None:
            self._mapped[begin : self.size] = chunk
            return
        self._chunks.append(chunk)
        if self.size >= MIN_LONG_BYTES and sys.platform == "linux":
            # Takes memory only for what is written.
            self._mapped = mmap.mmap(-1, self._most, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._mapped[: self.size] = b"".join(self._chunks)
            self._chunks.clear()

    async def finish(self) -> Body:
        """Return the whole body."""
        if self._mapped is not None:
            if self.size < self._most:
                self._mapped.resize(self.size)
            return self._mapped
        if len(self._chunks) == 1:
            return self._chunks[0]
        if self.size < MIN_THREADED_BYTES:
            return b"".join(self._chunks)
        return await asyncio.to_thread(b"".join, self._chunks)


def release(body: Body, begin: int, end: int) -> None:
    """Give the memory of these bytes back, in whole pages. Nothing must read them afterwards."""
    if isinstance(body, mmap.mmap):
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        last = end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            body.madvise(mmap.MADV_DONTNEED, first, last - first)
