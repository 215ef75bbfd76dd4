"""Reads how a file is put together, before Pillow does: how many parts it has, and how costly.

A *plain* file is one whose cost follows from its number of pixels: an ordinary JPEG, PNG or WebP.
Only such a file may be decoded in a thread. A thread can't be stopped, a process can. This module
reads sizes and counts. It unpacks nothing and knows nothing about threads and processes.
"""

import re
from itertools import islice
from struct import unpack_from

from service.errors import InvalidImage

PNG, JPEG, RIFF, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"WEBP"
MAX_CHUNKS = 1 << 16  # of a PNG; a picture of 10 MB has 1,300 of the usual 8 kB
MAX_SEGMENTS = 1 << 12  # of a JPEG before its pixels; a profile and metadata of 10 MB have 200
MAX_SCANS = 1 << 8  # of a JPEG; encoders write about ten
# Of what is no pixels, such as EXIF data, texts and thumbnails:
PLAIN_PARTS = 64
PLAIN_BYTES = 1 << 18
PLAIN_EXIF_BYTES = 1 << 16
PLAIN_PNG_BYTES = 4 << 20  # unpacking takes up to 0.2 s per MB, whatever the picture's size
PLAIN_SCAN_BYTES = 2 << 20  # of a JPEG of several scans, which are looked for byte by byte
TINY_BYTES = 4096

PNG_PIXELS, PNG_END = b"IDAT", b"IEND"
UNPACKED = (b"iCCP", b"zTXt", b"iTXt")  # PNG chunks that may be compressed
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
BASELINE, PROGRESSIVE = (0xFFC0, 0xFFC1), 0xFFC2
START_OF_SCAN = 0xFFDA
FRAMES = {*range(0xFFC0, 0xFFD0)} - {0xFFC4, 0xFFC8, 0xFFCC}
EXIF_SEGMENT = 0xFFE1
EXIF = b"Exif\0\0"
CONFIGURATION = re.compile(rb"av1C|hvcC")  # of the streams of an AVIF or HEIC
HEVC_CHROMA, HEVC_DEPTHS = 16, slice(17, 19)  # bytes of hvcC
# Samples per pixel of the three planes, by whether chroma is halved along x (2) and along y (1).
CHROMA_SAMPLES = (3.0, 3.0, 2.0, 1.5)
HEVC_SAMPLES = (1.0, 1.5, 2.0, 3.0)  # by the number of the sampling
MAX_PLANE_BYTES = 8.0  # 12 bits of luma, two planes of chroma and alpha
# After a scan's pixels, in which each 0xff is followed by 0 or is one of the eight restart markers:
NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
END_OF_IMAGE = 0xFFD9


def is_tiny_plain(content: bytes) -> bool:
    """Whether the file is so small and simple that it may be opened on the event loop.

    It is a PNG in which nothing is compressed but its pixels, or a JPEG of one scan. The number of
    pixels is not checked.
    """
    if len(content) > TINY_BYTES:
        return False
    if content.startswith(PNG):
        if content[37:41] == PNG_PIXELS:  # right after the header, which is 25 bytes long
            end = 49 + int.from_bytes(content[33:37])
            if content[end : end + 4] == PNG_END:
                return True
        return b"iCCP" not in content and b"zTXt" not in content and b"iTXt" not in content
    return content.startswith(JPEG) and _count_jpeg_passes(content) == 1


def count_passes(content: bytes) -> int | None:
    """How many times decoding goes over the pixels; None if the file is not plain.

    Raises:
        InvalidImage: the file has more parts than any sane picture.
    """
    if content.startswith(PNG):
        return 1 if _is_plain_png(content) else None
    if content.startswith(JPEG):
        return _count_jpeg_passes(content)
    if content.startswith(RIFF) and content[8:12] == WEBP:
        return 1 if _is_plain_webp(content) else None
    return None


def _is_plain_png(content: bytes) -> bool:
    position, chunks, others, size, compressed = len(PNG), 0, 0, 0, 0
    is_plain = len(content) <= PLAIN_PNG_BYTES
    while position + 8 <= len(content):
        length, kind = unpack_from(">I4s", content, position)
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise InvalidImage(_describe_parts("chunks", MAX_CHUNKS))
        if kind == PNG_END:
            break
        if kind != PNG_PIXELS:
            others += 1
            size += length
            compressed += kind in UNPACKED and _is_compressed(content, position + 8, kind)
            if kind in ANIMATION or (kind == b"eXIf" and length > PLAIN_EXIF_BYTES):
                is_plain = False
        position += length + 12
    return is_plain and others <= PLAIN_PARTS and size <= PLAIN_BYTES and compressed <= 1


def _is_compressed(content: bytes, start: int, kind: bytes) -> int:
    """1 for a colour profile, of which a plain PNG has one; 2 for a compressed text."""
    if kind == b"iCCP":
        return 1
    if kind == b"zTXt":
        return 2
    end_of_keyword = content.find(b"\0", start, start + 80)
    return (
        2 if end_of_keyword < 0 or content[end_of_keyword + 1 : end_of_keyword + 2] != b"\0" else 0
    )


def _count_jpeg_passes(content: bytes) -> int | None:
    position, segments, exif, frame = 2, 0, 0, None
    while position + 10 <= len(content):
        marker, length = unpack_from(">HH", content, position)
        if marker < 0xFFC0 or marker == 0xFFFF or 0xFFD0 <= marker <= 0xFFD9:
            return None  # junk or fill bytes: decoders skip them one by one
        segments += 1
        if segments > MAX_SEGMENTS:
            raise InvalidImage(_describe_parts("segments", MAX_SEGMENTS))
        if marker in FRAMES:
            if frame is not None:
                return None
            frame, components = marker, content[position + 9]
        elif marker == EXIF_SEGMENT:
            exif += content.startswith(EXIF, position + 4)
        elif marker == START_OF_SCAN:
            is_plain = frame is not None and exif <= 1 and position <= 4 * PLAIN_BYTES
            if frame in BASELINE and content[position + 4] == components:
                return 1 if is_plain else None
            if not is_plain or frame not in (*BASELINE, PROGRESSIVE):
                return None
            return _count_scans(content, position, MAX_SEGMENTS - segments)
        position += 2 + length
    return None


def _count_scans(content: bytes, position: int, most_segments: int) -> int | None:
    """The scans from the first one at `position`; None if other bytes than segments are between.

    A segment is skipped by its length, as decoders do: its bytes may look like any marker.
    """
    if len(content) > PLAIN_SCAN_BYTES:
        return None
    scans, segments = 0, 0
    while position + 4 <= len(content):
        marker, length = unpack_from(">HH", content, position)
        if marker == END_OF_IMAGE:
            return scans
        if marker < 0xFFC0 or marker == 0xFFD8 or length < 2:
            return None
        segments += 1
        scans += marker == START_OF_SCAN
        if scans > MAX_SCANS:
            raise InvalidImage(_describe_parts("scans", MAX_SCANS))
        if segments > most_segments:
            raise InvalidImage(_describe_parts("segments", MAX_SEGMENTS))
        found = NEXT_MARKER.search(content, position + 2 + length)
        if not found:
            break
        position = found.start()
    return scans


def check_scans(content: bytes) -> None:
    """Check that a JPEG has not too many scans. It need not be plain.

    Between its segments may be other bytes, which decoders skip.

    Raises:
        InvalidImage: it has too many scans or segments.
    """
    if not content.startswith(JPEG):
        return
    position, scans, segments = 2, 0, 0
    while found := NEXT_MARKER.search(content, position):
        position = found.start()
        marker = 0xFF00 | content[position + 1]
        if marker == END_OF_IMAGE:
            return
        if marker < 0xFFC0:  # has no length
            position += 2
            continue
        segments += 1
        scans += marker == START_OF_SCAN
        if scans > MAX_SCANS:
            raise InvalidImage(_describe_parts("scans", MAX_SCANS))
        if segments > MAX_SEGMENTS:
            raise InvalidImage(_describe_parts("segments", MAX_SEGMENTS))
        position += 2 + max(2, int.from_bytes(content[position + 2 : position + 4]))


def _is_plain_webp(content: bytes) -> bool:
    position, parts, size = 12, 0, 0
    while position + 8 <= len(content):
        kind, length = unpack_from("<4sI", content, position)
        parts += 1
        if parts > PLAIN_PARTS or kind in (b"ANIM", b"ANMF"):
            return False
        if kind not in (b"VP8 ", b"VP8L"):
            size += length
            if kind == b"EXIF" and length > PLAIN_EXIF_BYTES:
                return False
        position += 8 + length + length % 2
    return size <= 4 * PLAIN_BYTES


def count_lossless_bytes(content: bytes) -> int:
    """The bytes of a WebP in which pixels or their transparency may be stored lossless."""
    size, position, parts = 0, 12, 0
    while position + 8 <= len(content):
        kind, length = unpack_from("<4sI", content, position)
        parts += 1
        if parts > PLAIN_PARTS or kind == b"ANMF":  # frames have parts of their own
            return len(content)
        size += length if kind in (b"VP8L", b"ALPH") else 0
        position += 8 + length + length % 2
    return size


def count_plane_bytes(content: bytes, has_alpha: bool) -> float:
    """The bytes per pixel of the planes of an AVIF or HEIC, by what its streams say of themselves.

    Without a word of them, or with very many, it is taken for the largest kind.
    """
    matches = list(islice(CONFIGURATION.finditer(content), PLAIN_PARTS + 1))
    if not 0 < len(matches) <= PLAIN_PARTS:
        return MAX_PLANE_BYTES
    streams = [
        _read_stream(found.group(), content[found.end() : found.end() + 20]) for found in matches
    ]
    return max(depth * (samples + has_alpha) for depth, samples in streams)


def _read_stream(kind: bytes, configuration: bytes) -> tuple[int, float]:
    """The bytes of a number, and the samples per pixel of luma and chroma."""
    if kind == b"hvcC":
        sampling = configuration[HEVC_CHROMA] & 3 if len(configuration) > HEVC_CHROMA else 3
        is_deep = any(byte & 7 for byte in configuration[HEVC_DEPTHS]) or len(configuration) < 19
        return 2 if is_deep else 1, HEVC_SAMPLES[sampling]
    flags = configuration[2] if len(configuration) > 2 else 0b0100_0000
    samples = 1.0 if flags & 0b0001_0000 else CHROMA_SAMPLES[flags >> 2 & 3]
    return 2 if flags & 0b0100_0000 else 1, samples


def _describe_parts(parts: str, most: int) -> str:
    return f"The image file has more than {most} {parts}. Save it again with a usual program."
