"""Puts long answers together in one thread and in pieces, so that they never hold the event loop.

While a piece is encoded or copied, no other thread runs. So a piece has at most 20,000 values. This
module knows JSON and bytes, but not what they say.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

PIECE_VALUES = 20_000
PIECE_BYTES = 1 << 20

T = TypeVar("T")


class AnswerBuffer(BytesIO):
    """The bytes of an answer, as long as somebody waits for it."""

    is_wanted = True

    def add(self, pieces: Iterable[bytes]) -> None:
        """Append the pieces.

        Raises:
            CancelledError: nobody waits any more.
        """
        for piece in pieces:
            if not self.is_wanted:
                raise asyncio.CancelledError
            if len(piece) <= PIECE_BYTES:
                self.write(piece)
                continue
            for start in range(0, len(piece), PIECE_BYTES):
                self.write(memoryview(piece)[start : start + PIECE_BYTES])


@cache
def get_writer() -> ThreadPoolExecutor:
    """Return the thread for long answers. More threads would only delay the event loop."""
    return ThreadPoolExecutor(1, thread_name_prefix="writer")


async def run_in_writer(make: Callable[[], T]) -> T:
    """Call a function in the thread for long answers."""
    return await asyncio.get_running_loop().run_in_executor(get_writer(), make)


async def write_in_pieces(write: Callable[[AnswerBuffer], T]) -> T:
    """Call `write` in that thread, with a buffer to add to. It stops if this call is cancelled."""
    buffer = AnswerBuffer()
    try:
        return await run_in_writer(lambda: write(buffer))
    finally:
        buffer.is_wanted = False


async def join_pieces(pieces: Iterable[bytes]) -> bytes:
    """Return the pieces as one, which that thread makes and joins."""

    def write(buffer: AnswerBuffer) -> bytes:
        buffer.add(pieces)
        return buffer.getvalue()

    return await write_in_pieces(write)


def iterate_json(value: Any) -> Iterator[bytes]:
    """Yield the JSON of a value in pieces: its lists, arrays and objects are cut, but no text."""
    if isinstance(value, dict) and value:
        before = b"{"
        for name, part in value.items():
            yield b"%b%b:" % (before, to_json(name))
            yield from iterate_json(part)
            before = b","
        yield b"}"
    elif isinstance(value, list | np.ndarray) and np.size(value):
        yield from _iterate_items(value)
    else:
        yield to_json(value, fallback=np.ndarray.tolist)


def _iterate_items(values: list[Any] | NDArray[Any]) -> Iterator[bytes]:
    """Yield the JSON of items that are alike: as many at a time as are short together."""
    each = values[:1].size if isinstance(values, np.ndarray) else _count_values(values[0])
    before = b"["
    if each > PIECE_VALUES:
        for value in values:
            yield before
            yield from iterate_json(value)
            before = b","
    else:
        step = PIECE_VALUES // each
        for start in range(0, len(values), step):
            items = to_json(values[start : start + step], fallback=np.ndarray.tolist)
            yield b"%b%b" % (before, items[1:-1])
            before = b","
    yield b"]"


def _count_values(value: Any) -> int:
    """Count the values in an item of a list, and in all that it contains."""
    if isinstance(value, dict):
        return 1 + sum(map(_count_values, value.values()))
    if isinstance(value, list):
        return 1 + (sum(map(_count_values, value)) if len(value) <= PIECE_VALUES else len(value))
    return 1
