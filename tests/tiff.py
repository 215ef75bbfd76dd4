"""Writes TIFF files of every kind: byte order, depth, sample format, bands, compression.

Pillow writes only some of the kinds that it reads, and tests need all of them.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES = 273, 274, 277, 278, 279
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NONE, DEFLATE = 1, 8
FORMATS = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}
SHORT, LONG = 3, 4


def write_tiff(
    samples: np.ndarray[Any, Any],
    byte_order: str = "<",
    photometric: int = BLACK_IS_ZERO,
    compression: int = NONE,
    planar: bool = False,
    tags: Mapping[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Return a TIFF with one strip that stores (H, W) or (H, W, C) numbers as they are.

    `tags` are further tags of 16 bits, or replace those that follow from the samples. With a tag
    for 12 bits, numbers are packed.
    """
    height, width = samples.shape[:2]
    bands = samples.shape[2] if samples.ndim == 3 else 1
    bits = 8 * samples.dtype.itemsize
    values: dict[int, tuple[int, ...]] = {
        BITS: (bits,) * bands,
        COMPRESSION: (compression,),
        PHOTOMETRIC: (photometric,),
        SAMPLES: (bands,),
        PLANAR: (2 if planar else 1,),
        SAMPLE_FORMAT: (FORMATS[samples.dtype.kind],) * bands,
    }
    values |= tags or {}
    if values[BITS][0] == 12:
        data = pack_12_bits(samples)
    else:
        ordered = np.moveaxis(samples, 2, 0) if planar else samples
        data = ordered.astype(samples.dtype.newbyteorder(byte_order)).tobytes()
    strips = [data]
    if planar:
        size = len(data) // bands
        strips = [data[start : start + size] for start in range(0, len(data), size)]
    if compression == DEFLATE:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = tuple(8 + sum(map(len, strips[:index])) for index in range(len(strips)))
    long_values = {
        WIDTH: (width,),
        HEIGHT: (height,),
        ROWS: (height,),
        STRIP_OFFSETS: offsets,
        STRIP_BYTES: tuple(map(len, strips)),
    }
    entries = {tag: (SHORT, "H", numbers) for tag, numbers in values.items()}
    entries |= {tag: (LONG, "I", numbers) for tag, numbers in long_values.items()}
    return _join(byte_order, b"".join(strips), entries)


def pack_12_bits(samples: np.ndarray[Any, Any]) -> bytes:
    """Return rows of 12-bit numbers, two in three bytes."""
    rows = []
    for row in samples:
        bits = "".join(f"{value:012b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return b"".join(rows)


def _join(
    byte_order: str, data: bytes, entries: dict[int, tuple[int, str, tuple[int, ...]]]
) -> bytes:
    """The header, the strips, the directory, and the values that don't fit into it."""
    data += bytes(len(data) % 2)
    position = 8 + len(data)
    spare = position + 2 + 12 * len(entries) + 4
    directory, rest = struct.pack(byte_order + "H", len(entries)), b""
    for tag, (kind, code, numbers) in sorted(entries.items()):
        packed = struct.pack(f"{byte_order}{len(numbers)}{code}", *numbers)
        if len(packed) > 4:
            packed, rest = struct.pack(byte_order + "I", spare + len(rest)), rest + packed
        head = struct.pack(byte_order + "HHI", tag, kind, len(numbers))
        directory += head + packed.ljust(4, b"\0")
    mark = b"II" if byte_order == "<" else b"MM"
    header = mark + struct.pack(byte_order + "HI", 42, position)
    return header + data + directory + bytes(4) + rest


def write_exif_with_a_broken_rational(orientation: int) -> bytes:
    """EXIF data with a horizontal resolution of -72/1, which has no unsigned form."""
    signed_rational, x_resolution = 10, 0x011A
    directory = struct.pack("<H", 2)
    directory += struct.pack("<HHIHH", ORIENTATION, SHORT, 1, orientation, 0)
    directory += struct.pack("<HHII", x_resolution, signed_rational, 1, 8 + 2 + 24 + 4)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + struct.pack("<ii", -72, 1)
