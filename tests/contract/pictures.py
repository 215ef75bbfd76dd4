"""Makes pictures: rotated, transparent, 16-bit, animated, tiny, long."""

import io
import itertools

import numpy as np
from PIL import Image

from tests.service.quadrants_model import encode

ORIENTATION_TAG = 0x0112
STORE = {  # by EXIF orientation: how a camera stores an image that viewers rotate back
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
MODEL_SIZE = (32, 32)


def turn(shown: Image.Image, orientation: int, file_format: str = "PNG") -> bytes:
    """Return a file that stores the image with this EXIF orientation, lossless if it can be."""
    how = STORE[orientation]
    stored = shown if how is None else shown.transpose(how)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    return encode(stored, file_format, exif=exif, **options)


def paint(
    colour: int | tuple[int, ...] = 255, size: tuple[int, int] = MODEL_SIZE, mode: str = "RGB"
) -> Image.Image:
    """Return an image of one colour. A number is a gray level."""
    if isinstance(colour, int):
        colour = (colour,) * len(mode)
    return Image.new(mode, size, colour)


def halve(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return the left half of one image and the right half of another as one image."""
    both = left.copy()
    middle = left.width // 2
    both.paste(right.crop((middle, 0, *right.size)), (middle, 0))
    return both


def animate(frames: list[Image.Image], file_format: str) -> bytes:
    """Return a file with several frames."""
    first, *others = frames
    options = {"lossless": True} if file_format == "WEBP" else {}
    return encode(first, file_format, save_all=True, append_images=others, **options)


def read(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the pixels (H, W, 3) of an image file."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def cut_short(content: bytes) -> bytes:
    """Return the first half of a file."""
    return content[: len(content) // 2]


def announce_size(width: int, height: int) -> bytes:
    """Return a PNG whose header claims this size. It contains almost no data."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    chunks = itertools.starmap(chunk, parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
