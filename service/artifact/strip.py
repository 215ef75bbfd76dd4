"""Leaves the metadata out of the bytes of a model file, which an engine would only keep.

onnxruntime holds them three times for as long as the session lives, and a card may have megabytes.
This module knows the wire format of protocol buffers, and of ONNX only the number of one field.
"""

METADATA_PROPS = 14  # the field of a ModelProto
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # kinds of fields
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


def strip_metadata(content: bytes) -> bytes:
    """Return a model file, which was validated, without its metadata."""
    view, kept, at = memoryview(content), [], 0
    while at < len(content):
        begin = at
        key, at = _read_varint(content, at)
        if key & 7 == VARINT:
            _, at = _read_varint(content, at)
        elif key & 7 == LENGTH:
            size, at = _read_varint(content, at)
            at += size
        else:
            at += FIXED_SIZES[key & 7]
        if key >> 3 != METADATA_PROPS:
            kept.append(view[begin:at])
    return b"".join(kept)


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the integer at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
