"""Reads a long list of numbers in JSON piece by piece into an array.

At once it would need many times its size in memory, and hold all other requests meanwhile. This
module knows no tensors.
"""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadRequest, PayloadTooLarge

MAX_VALUES = 1_000_000
MAX_ITEMS = (
    3 * MAX_VALUES
)  # values and lists: pixels of one channel are each in a list of their own
PIECE_BYTES = 1 << 16
MAX_GAP_BYTES = 1 << 18  # between two commas
MAX_DEPTH = 16  # of lists in lists


def read_integers(text: memoryview, name: str) -> NDArray[np.int64]:
    """Return the integers of a list, flat or nested, in order; `name` is the input's.

    Raises:
        BadRequest: The list is malformed, or has something other than integers.
        OverflowError: One has more than 64 bits.
        PayloadTooLarge: It has more than `MAX_VALUES` values, or too many lists.
    """
    arrays: list[NDArray[np.int64]] = []
    count, lists, depths = 0, 0, set[int]()
    is_long = len(text) > PIECE_BYTES
    for piece in _cut_at_commas(text, name):
        if is_long and b"[]" in piece:  # millions of them would be millions of nothing
            raise _make_malformed(name)
        try:
            values, depth = flatten(json.loads(piece))
        except (ValueError, RecursionError):
            raise _make_malformed(name) from None
        if set(map(type, values)) - {int}:
            raise _make_malformed(name)
        count += len(values)
        lists += piece.count(b"[")
        if count > MAX_VALUES or count + lists > MAX_ITEMS:
            raise PayloadTooLarge(
                f"The JSON has more than {MAX_VALUES} values: send tensors as binary data."
            )
        if values:
            depths.add(depth)
        arrays.append(np.array(values, np.int64))
    if len(depths) > 1:
        raise _make_malformed(name)
    return np.concatenate(arrays)


def flatten(values: list[Any]) -> tuple[list[Any], int]:
    """Return the innermost values of lists that are equally deep, and how deep they are."""
    depth = 1
    while values and set(map(type, values)) == {list}:
        values = list(chain.from_iterable(values))
        depth += 1
    return values, depth


def _cut_at_commas(text: memoryview, name: str) -> Iterator[bytes]:
    """Yield pieces that are lists themselves, as deep at both ends as the whole list is there.

    Raises:
        BadRequest: The brackets or the commas are wrong.
    """
    depth, rest = 0, b""
    for start in range(0, len(text), PIECE_BYTES):
        piece = rest + bytes(text[start : start + PIECE_BYTES])
        is_last = start + PIECE_BYTES >= len(text)
        end = len(piece) if is_last else piece.rfind(b",")
        if end < 0:
            if len(piece) > MAX_GAP_BYTES:
                raise _make_malformed(name)
            rest = piece
            continue
        rest, piece = piece[end + 1 :], piece[:end]
        before = depth
        depth += piece.count(b"[") - piece.count(b"]")
        fits = depth == 0 if is_last else 1 <= depth <= MAX_DEPTH
        if not fits or (before and piece.lstrip()[:1] in b"],"):
            raise _make_malformed(name)
        yield b"[" * before + piece + b"]" * depth


def _make_malformed(name: str) -> BadRequest:
    return BadRequest(f"The 'data' of the input '{name}' must be integers, flat or nested.")
