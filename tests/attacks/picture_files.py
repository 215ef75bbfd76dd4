"""Writes small files that ask a decoder for much memory or much work."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from tests.heic import HEIC
from tests.service.quadrants_model import encode

SHORT, LONG = 3, 4  # types of TIFF tags
G4, DEFLATE = 4, 8  # compressions of TIFF
FAST = {"preset": "ultrafast"}  # of the encoder of HEIC


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def insert_chunks(chunks: Iterable[bytes], picture: bytes | None = None) -> bytes:
    """A small PNG with further chunks before its pixels."""
    picture = picture or encode(Image.new("L", (28, 28)))
    header = 8 + 25  # the signature and the IHDR chunk
    return picture[:header] + b"".join(chunks) + picture[header:]


def write_texts(count: int, characters: int) -> bytes:
    """A PNG with compressed texts."""
    text = zlib.compress(b"a" * (characters - 4) + "\U0001f600".encode(), 9)
    return insert_chunks(
        chunk(b"iTXt", f"k{number}".encode() + b"\0\1\0\0\0" + text) for number in range(count)
    )


def write_flat_png(width: int, height: int) -> bytes:
    """A gray PNG of one colour: a thousandth of its pixels in bytes."""
    return encode(Image.new("L", (width, height), 200), compress_level=9)


def write_noise(width: int, height: int, file_format: str = "JPEG") -> bytes:
    """A picture that no encoder makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return encode(Image.fromarray(pixels), file_format)


def write_scans(side: int, scans: int, comment: bytes | None = None) -> bytes:
    """A progressive JPEG whose scans repeat that of its last coefficients, with no bit set.

    They may follow a comment.
    """
    content = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start = content.index(b"\xff\xda")
    end = content.index(b"\xff", start + 2)
    while content[end + 1] == 0:
        end = content.index(b"\xff", end + 2)
    # A table with the one code 0 for "the next 32767 blocks have nothing here".
    table = b"\xff\xc4" + struct.pack(">HB16B", 20, 0x10, 1, *[0] * 15) + b"\xe0"
    blocks = (side // 8) ** 2
    bits = "".join("0" + f"{run - 16384:014b}" for run in split_runs(blocks))
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0x00, 1, 63, 0x00) + data
    if comment is not None:
        table = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + table
    return content[:end] + table + scan * scans + b"\xff\xd9"


def write_slow_scans(side: int, scans: int, filling: bytes = b"") -> bytes:
    """A progressive JPEG each of whose scans looks at all coefficients again."""
    content = write_scans(side, scans)
    content = content.replace(bytes([1, 0x00, 1, 63, 0x00]), bytes([1, 0x00, 1, 63, 0x10]))
    return content[:2] + filling + content[2:]


def split_runs(blocks: int) -> Iterable[int]:
    """Runs of 16384 to 32767 blocks; a decoder ignores what is beyond the last block."""
    while blocks > 0:
        yield min(max(blocks, 16384), 32767)
        blocks -= 32767


def write_segments(count: int) -> bytes:
    """A JPEG with empty segments before its pixels."""
    content = encode(Image.new("L", (28, 28)), "JPEG")
    return content[:2] + b"\xff\xe5\x00\x02" * count + content[2:]


def write_run_lengths(width: int, height: int) -> bytes:
    """A run-length encoded BMP of a kilobyte: each row is one pixel and an early end."""
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII",
        b"BM", 1086, 0, 0, 1078, 40, width, height, 1, 8, 1, 8, 0, 0, 256, 256,
    )  # fmt: skip
    return header + bytes(1024) + b"\1\0\0\0" * height


def write_tiff(entries: dict[int, tuple[int, int, int | bytes]], data: bytes) -> bytes:
    """A TIFF with `data` at offset 8; each tag has a type, a count and a value or its bytes.

    Bytes of more than four are placed at the end.
    """
    directory, extra = b"", b""
    start = 8 + len(data)
    after = start + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        if isinstance(value, int):
            value = struct.pack("<I", value)
        if len(value) > 4:
            extra, value = extra + value, struct.pack("<I", after + len(extra))
        directory += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    head = struct.pack("<2sHI", b"II", 42, start)
    return head + data + struct.pack("<H", len(entries)) + directory + bytes(4) + extra


def write_tiles(tiles: int, tile: tuple[int, int], size: tuple[int, int]) -> bytes:
    """A TIFF all of whose tiles are the same compressed bytes."""
    packed = zlib.compress(bytes(tile[0] * tile[1]), 9)
    return write_tiff(describe_tiles(tiles, tile, size, 8, DEFLATE, len(packed)), packed)


def write_fax_tile(tile: tuple[int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    """A TIFF with one tile in the code of fax machines: one bit for each white row."""
    packed = b"\xff" * (tile[1] // 8 + 1)
    return write_tiff(describe_tiles(1, tile, size, 1, G4, len(packed)), packed)


def describe_tiles(
    tiles: int,
    tile: tuple[int, int],
    size: tuple[int, int],
    bits: int,
    compression: int,
    packed: int,
) -> dict[int, tuple[int, int, int | bytes]]:
    """The tags of a tiled gray TIFF."""
    return {
        256: (LONG, 1, size[0]),
        257: (LONG, 1, size[1]),
        258: (SHORT, 1, bits),
        259: (SHORT, 1, compression),
        262: (SHORT, 1, 1),
        277: (SHORT, 1, 1),
        322: (LONG, 1, tile[0]),
        323: (LONG, 1, tile[1]),
        324: (LONG, tiles, struct.pack("<I", 8) * tiles),
        325: (LONG, tiles, struct.pack("<I", packed) * tiles),
    }


def write_comments(size: int) -> bytes:
    """A GIF whose comment is `size` bytes long, in blocks of 255."""
    content = encode(Image.new("L", (28, 28)), "GIF")
    position = content.index(b"\x2c", 13)  # the start of the pixels
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * (size // 256) + b"\0"
    return content[:position] + comment + content[position:]


def write_fill_bytes(count: int) -> bytes:
    """A JPEG with fill bytes before a marker. Pillow reads them one by one."""
    content = encode(Image.new("L", (28, 28)), "JPEG")
    return content[:2] + b"\xff" * count + content[2:]


def write_profiles(count: int) -> bytes:
    """A PNG with colour profiles that unpack to a megabyte each."""
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1 << 20), 9))
    return insert_chunks([profile] * count)


def write_long_tag(size: int) -> bytes:
    """A JPEG whose EXIF resolution is unit is a list of `size` bytes."""
    exif = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0128, SHORT, size // 2, 26) + bytes(4)
    exif += bytes(range(256)) * (size // 256)
    parts = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts
    )
    file = io.BytesIO()
    Image.new("L", (28, 28)).save(file, "JPEG")
    content = file.getvalue()
    end = 2 + 2 + struct.unpack(">H", content[4:6])[0]
    # without JFIF's resolution Pillow looks for one in the EXIF data
    return content[:2] + segments + content[end:]


def write_code_groups(side: int, groups: int) -> bytes:
    """A lossless WebP of one colour, in which blocks of 4 x 4 pixels have codes of their own."""
    bits = "".join(_list_webp_bits(side, groups))
    bits += "0" * (-len(bits) % 16)
    data = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
    part = b"VP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(part) + 4) + b"WEBP" + part


def _list_webp_bits(side: int, groups: int) -> Iterator[str]:
    """The bits in the order in which they are read. Numbers have their lowest bit first."""

    def number(value: int, count: int) -> str:
        return f"{value:0{count}b}"[::-1]

    one_symbol = "1" + "0" + "0" + "0"  # a code for 0 only
    yield number(0x2F, 8) + number(side - 1, 14) * 2 + "0" + "000"
    yield "0" + "0" + "1" + "000"  # no transform, no cache, groups of codes, blocks of 4 x 4
    yield "0"  # the picture of group numbers has no cache; its codes have 8 bits for each byte
    lengths = [18, 8]  # symbols of the code for lengths: "11 or more zeros", and 8
    order = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8]
    start = "0" + number(len(order) - 4, 4)
    start += "".join(number(int(symbol in lengths), 3) for symbol in order) + "0" + "0" * 256
    yield start + "1" + number(24 - 11, 7)  # green, with 24 unused lengths of repeats
    yield start + one_symbol * 3
    for block in range((side // 4) ** 2):
        group = min(block, groups - 1)
        yield f"{group & 255:08b}{group >> 8:08b}"
    yield one_symbol * 5 * groups


def write_larger_avif(stored: tuple[int, int], announced: tuple[int, int]) -> bytes:
    """An AVIF of one colour whose header announces another size than its stream has."""
    content = encode(Image.new("L", stored, 90), "AVIF", speed=10, subsampling="4:0:0")
    return _announce(announced, content)


def write_larger_heic(stored: tuple[int, int], announced: tuple[int, int]) -> bytes:
    """The same as a HEIC."""
    return _announce(announced, encode(Image.new("L", stored, 90), HEIC, enc_params=FAST))


def _announce(size: tuple[int, int], content: bytes) -> bytes:
    """Change the size that the header says."""
    start = content.index(b"ispe") + 8
    return content[:start] + struct.pack(">II", *size) + content[start + 8 :]


def write_avif_frames(count: int) -> bytes:
    """An animated AVIF whose tables announce so many frames of a byte each."""
    frames = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (0, 90)]
    content = bytearray(encode(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    per_chunk = content.index(b"stsc") + 16
    content[per_chunk : per_chunk + 4] = struct.pack(">I", count)
    sizes = content.index(b"stsz") + 8  # that of all frames, and their number
    content[sizes : sizes + 8] = struct.pack(">II", 1, count)
    return bytes(content) + bytes(count)
