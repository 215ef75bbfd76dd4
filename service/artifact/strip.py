"""Leaves the metadata out of the bytes of a model file, which an engine would only keep.

onnxruntime holds them three times for as long as the session lives, and a card may have megabytes.
This module knows the wire format of protocol buffers, and of ONNX only the number of one field.
"""

from collections.abc import Iterator
from itertools import islice

METADATA_PROPS = 14  # the field of a ModelProto
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # kinds of fields
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
MAX_FIELDS = 10_000  # of the file itself, not of its graph


def strip_metadata(content: bytes) -> bytes:
    """Return a model file, which was validated, without its metadata."""
    view = memoryview(content)
    fields = _find_fields(content)
    return b"".join(view[begin:end] for number, begin, end in fields if number != METADATA_PROPS)


def has_too_many_fields(content: bytes) -> bool:
    """Return whether a model file has more fields than a worker shall look at.

    Raises:
        ValueError: one is of a kind that ONNX does not have.
    """
    return next(islice(_find_fields(content), MAX_FIELDS, None), None) is not None


def _find_fields(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field, where it begins and where it ends."""
    at = 0
    while at < len(content):
        begin = at
        key, at = _read_varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, at = _read_varint(content, at)
        elif kind == LENGTH:
            size, at = _read_varint(content, at)
            at += size
        elif kind in FIXED_SIZES:
            at += FIXED_SIZES[kind]
        else:
            raise ValueError(f"its field {number} is of kind {kind}")
        yield number, begin, at


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the integer at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
