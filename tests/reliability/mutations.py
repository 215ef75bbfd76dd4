"""Randomly damaged pictures of every accepted format.

The same seed makes the same files. The module does not know requests or servers.
"""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.contract.pictures import animate
from tests.heic import HEIC
from tests.service.quadrants_model import encode, light

SIZE = (48, 36)
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MOST_MUTATIONS = 8  # mutations of one file
LARGEST = 200_000  # bytes; larger files of the data sets are not used

Mutation = Callable[[bytearray, random.Random], None]


def make_pictures() -> list[bytes]:
    """Return small files of every accepted format, in all their modes and compressions."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    image = Image.blend(light(1, SIZE), Image.fromarray(noise), 0.3)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    clear = image.convert("RGBA")
    clear.putalpha(128)
    frames = [image, image.rotate(90), image.rotate(180)]
    return [
        encode(image, "JPEG", exif=exif),
        encode(image, "JPEG", progressive=True, quality=50),
        encode(image.convert("L"), "JPEG", restart_marker_blocks=2),
        encode(image.convert("CMYK"), "JPEG"),
        animate(frames, "MPO"),
        encode(image, "PNG", exif=exif),
        encode(image.convert("P"), "PNG", transparency=3),
        encode(deep, "PNG"),
        encode(clear, "PNG", icc_profile=bytes(500)),
        animate(frames, "PNG"),
        encode(image, "WEBP", quality=60),
        encode(clear, "WEBP", lossless=True, exif=exif),
        animate(frames, "WEBP"),
        encode(image, "AVIF", exif=exif),
        encode(clear, "AVIF", subsampling="4:4:4"),
        animate(frames, "AVIF"),
        encode(image, HEIC, exif=exif),
        encode(clear, HEIC, chroma="444"),
        encode(image, HEIC, tile_size=64),
        encode(deep, HEIC),
        animate(frames, HEIC),
        encode(image, "GIF"),
        animate(frames, "GIF"),
        encode(image, "BMP"),
        encode(image.convert("P"), "BMP"),
        encode(image.convert("1"), "BMP"),
        encode(image, "TIFF"),
        encode(image, "TIFF", compression="tiff_lzw"),
        encode(image, "TIFF", compression="tiff_adobe_deflate"),
        encode(image, "TIFF", compression="jpeg"),
        encode(image.convert("1"), "TIFF", compression="group4"),
        encode(deep, "TIFF"),
        encode(image.convert("LAB"), "TIFF"),
        animate([frame.copy() for frame in frames], "TIFF"),  # the JPEG frames carry settings
    ]


def find_pictures(data: Path) -> list[bytes]:
    """Return the small ones of the data sets' odd pictures and photographs."""
    paths = sorted([*(data / "odd-images").iterdir(), *(data / "photos" / "other").iterdir()])
    return [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST]


def mutate(content: bytes, others: list[bytes], source: random.Random) -> bytes:
    """Return a damaged copy."""
    damaged = bytearray(content)
    for _ in range(source.randint(1, MOST_MUTATIONS)):
        if not damaged:
            break
        source.choice(MUTATIONS)(damaged, source)
    if source.random() < 0.1:
        other = source.choice(others)
        damaged += other[source.randrange(len(other)) :]
    return bytes(damaged)


def flip_bit(damaged: bytearray, source: random.Random) -> None:
    """Flip any bit."""
    damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)


def flip_early_bit(damaged: bytearray, source: random.Random) -> None:
    """Flip a bit in the headers."""
    damaged[source.randrange(min(len(damaged), 128))] ^= 1 << source.randrange(8)


def set_number(damaged: bytearray, source: random.Random) -> None:
    """Overwrite 1, 2 or 4 bytes with a critical number, in either byte order."""
    width = source.choice((1, 2, 4))
    number = source.choice(INTERESTING) & (256**width - 1)
    at = source.randrange(min(len(damaged), source.choice((64, len(damaged)))))
    damaged[at : at + width] = number.to_bytes(width, source.choice(("big", "little")))


def cut_off(damaged: bytearray, source: random.Random) -> None:
    """Keep only the beginning."""
    del damaged[source.randrange(len(damaged)) :]


def cut_out(damaged: bytearray, source: random.Random) -> None:
    """Remove bytes in the middle."""
    at = source.randrange(len(damaged))
    del damaged[at : at + source.randint(1, 64)]


def repeat(damaged: bytearray, source: random.Random) -> None:
    """Repeat some bytes several times."""
    at = source.randrange(len(damaged))
    damaged[at:at] = damaged[at : at + source.randint(1, 64)] * source.randint(1, 8)


def insert_noise(damaged: bytearray, source: random.Random) -> None:
    """Insert random bytes."""
    at = source.randrange(len(damaged))
    damaged[at:at] = source.randbytes(source.randint(1, 64))


def swap(damaged: bytearray, source: random.Random) -> None:
    """Swap two pieces."""
    length = source.randint(1, 64)
    one, two = source.randrange(len(damaged)), source.randrange(len(damaged))
    first, second = damaged[one : one + length], damaged[two : two + length]
    damaged[one : one + length], damaged[two : two + length] = second, first


MUTATIONS: tuple[Mutation, ...] = (
    flip_bit,
    flip_bit,
    flip_early_bit,
    set_number,
    set_number,
    cut_off,
    cut_out,
    repeat,
    insert_noise,
    swap,
)
