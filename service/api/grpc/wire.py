"""The wire format of protocol buffers: fields with a number, read where they stand, and written.

A parser that makes objects would need many times a message's size: one of 64 MB may hold 32 million
tensors. So nothing is copied here but what is asked for, and the fields are counted. This module
knows no messages. See https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import BadRequest, PayloadTooLarge
from service.http.body import Part

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # kinds of fields
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10
MAX_FIELDS = 128  # of one message; those of messages in it are counted anew
MAX_ALL_FIELDS = 1024  # of a message with all messages in it
MAX_TEXT_BYTES = 4096
MAX_VALUES = 1_000_000  # of the packed lists of a message


class Field(NamedTuple):
    """A field: an integer, or the place of its bytes."""

    number: int
    kind: int
    value: int
    part: Part


class FieldCount:
    """Counts the fields of a message and of all messages in it, and the values of packed lists."""

    def __init__(self) -> None:
        self._left = MAX_ALL_FIELDS
        self._values = 0

    def add(self) -> None:
        """Count one more.

        Raises:
            BadRequest: There are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise BadRequest(
                f"The message has more than {MAX_ALL_FIELDS} fields in all: send fewer, and lists "
                "packed."
            )

    def add_values(self, count: int) -> None:
        """Count values, which take eight bytes each.

        Raises:
            PayloadTooLarge: There are too many.
        """
        self._values += count
        if self._values > MAX_VALUES:
            raise make_too_many()


def read_fields(
    part: Part, most: int = MAX_FIELDS, total: FieldCount | None = None
) -> Iterator[Field]:
    """Yield the fields of a message, `most` of them, in the order in which they were sent.

    Raises:
        BadRequest: It is malformed, or has too many fields.
    """
    at, count = part.begin, 0
    while at < part.end:
        count += 1
        if total:
            total.add()
        if count > most:
            raise BadRequest(
                f"A message has more than {most} fields: send fewer, and lists packed."
            )
        key, at = _read_varint(part, at)
        number, kind, value = key >> 3, key & 7, 0
        begin = at
        if kind == VARINT:
            value, at = _read_varint(part, at)
        elif kind == LENGTH:
            size, begin = _read_varint(part, at)
            at = begin + size
        elif kind in FIXED_SIZES:
            at += FIXED_SIZES[kind]
        else:
            raise make_malformed()
        if at > part.end or not number:
            raise make_malformed()
        yield Field(number, kind, value, type(part)(part.body, begin, at))


def read_text(field: Field) -> str:
    """Return a text.

    Raises:
        BadRequest: It is not one, or too long.
    """
    if field.kind != LENGTH:
        raise make_malformed()
    if len(field.part) > MAX_TEXT_BYTES:
        raise BadRequest(f"A text has more than {MAX_TEXT_BYTES} bytes: send a shorter one.")
    try:
        return bytes(field.part.view).decode()
    except UnicodeDecodeError:
        raise BadRequest("A text is not valid UTF-8.") from None


def read_signed(field: Field) -> int:
    """Return an integer of 64 bits with a sign.

    Raises:
        BadRequest: It is not one.
    """
    if field.kind != VARINT:
        raise make_malformed()
    return field.value - (1 << 64) if field.value >> 63 else field.value


def read_integers(field: Field) -> NDArray[np.int64]:
    """Return a list of integers, packed or not; those without a sign must be under 2 ** 63.

    Raises:
        BadRequest: It is malformed.
        PayloadTooLarge: It has too many values.
    """
    if field.kind != LENGTH:
        return np.array([read_signed(field)], np.int64)
    if len(field.part) > MAX_VALUES * MAX_VARINT_BYTES:
        raise make_too_many()
    sent = np.frombuffer(field.part.view, np.uint8)
    last = np.flatnonzero(sent < 0x80)  # the last byte of each integer
    if len(last) > MAX_VALUES:
        raise make_too_many()
    if not len(last):
        if len(sent):
            raise make_malformed()
        return np.empty(0, np.int64)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if last[-1] != len(sent) - 1 or lengths.max() > MAX_VARINT_BYTES:
        raise make_malformed()
    values = np.zeros(len(last), np.uint64)
    for index in range(int(lengths.max())):
        longer = np.flatnonzero(lengths > index)
        bits = (sent[first[longer] + index] & 0x7F).astype(np.uint64)
        values[longer] |= bits << np.uint64(7 * index)
    return values.view(np.int64)


def write_key(number: int, kind: int) -> bytes:
    """Return what stands before a field's value."""
    return write_varint(number << 3 | kind)


def write_varint(value: int) -> bytes:
    """Return an integer in as few bytes as it needs."""
    value &= (1 << 64) - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_head(number: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a field."""
    return write_key(number, LENGTH) + write_varint(size)


def write_bytes(number: int, content: bytes) -> bytes:
    """Return a field of bytes, or with a message in it."""
    return write_head(number, len(content)) + content


def write_text(number: int, text: str) -> bytes:
    """Return a field with a text; an empty one needs none."""
    return write_bytes(number, text.encode()) if text else b""


def write_flag(number: int, value: bool) -> bytes:
    """Return a field with a truth value; false needs none."""
    return write_key(number, VARINT) + b"\1" if value else b""


def write_integers(number: int, values: Any) -> bytes:
    """Return a packed list of integers."""
    return write_bytes(number, b"".join(map(write_varint, values)))


def count_packed_bytes(values: NDArray[np.uint8]) -> int:
    """Return how long the integers are in a packed list."""
    return values.size + int(np.count_nonzero(values >= 0x80))


def pack_small_integers(values: NDArray[np.uint8]) -> bytes:
    """Return the integers of a packed list, one or two bytes each."""
    flat = values.ravel()
    if not flat.size or flat.max() < 0x80:
        return flat.tobytes()
    pairs = np.stack([flat | 0x80, flat >> 7], axis=1)  # (values, 2)
    pairs[flat < 0x80, 0] &= 0x7F
    is_written = np.stack([np.ones(flat.size, bool), flat >= 0x80], axis=1)
    packed: bytes = pairs[is_written].tobytes()
    return packed


def _read_varint(part: Part, at: int) -> tuple[int, int]:
    """Return the integer at a place of the body, and the place after it."""
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if at >= part.end:
            raise make_malformed()
        byte = part.body[at]
        at += 1
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise make_malformed()


def make_malformed() -> BadRequest:
    return BadRequest("The message is malformed: it is not of the type that this call takes.")


def make_too_many() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The lists of a message have more than {MAX_VALUES} values: send tensors as "
        "raw_input_contents."
    )
