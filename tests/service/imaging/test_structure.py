"""A file is plain if its cost follows from its number of pixels."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.errors import InvalidImage
from service.imaging.structure import (
    MAX_CHUNKS,
    MAX_SCANS,
    MAX_SEGMENTS,
    check_scans,
    count_passes,
    count_plane_bytes,
    is_tiny_plain,
)
from tests.attacks import picture_files as files
from tests.heic import HEIC
from tests.service.quadrants_model import encode, light

PHOTO = light(0, (64, 48))
PROFILE = bytes(range(256)) * 4


def write_png_with_text(text: str, compressed: bool) -> bytes:
    info = PngInfo()
    info.add_text("Comment", text, compressed)
    info.add_itxt("Title", text[:10])
    return encode(PHOTO, "PNG", pnginfo=info)


def write_exif(size: int, file_format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a" * size
    return encode(PHOTO, file_format, exif=exif)


PLAIN: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encode(PHOTO, "PNG"),
    "PNG with a profile": lambda: encode(PHOTO, "PNG", icc_profile=PROFILE),
    "PNG with texts": lambda: write_png_with_text("a" * 1000, False),
    "JPEG": lambda: encode(PHOTO, "JPEG"),
    "JPEG with metadata": lambda: write_exif(60_000),
    "JPEG with a profile": lambda: encode(PHOTO, "JPEG", icc_profile=PROFILE * 100),
    "CMYK JPEG": lambda: encode(PHOTO.convert("CMYK"), "JPEG"),
    "WebP": lambda: encode(PHOTO, "WEBP"),
    "lossless WebP with metadata": lambda: encode(
        PHOTO, "WEBP", lossless=True, icc_profile=PROFILE
    ),
}
NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "PNG with a compressed text": lambda: write_png_with_text("a" * 1000, True),
    "PNG with long texts": lambda: write_png_with_text("a" * 300_000, False),
    "PNG with several profiles": lambda: files.write_profiles(2),
    "PNG with many chunks": lambda: files.insert_chunks([files.chunk(b"teSt", b"")] * 100),
    "animated PNG": lambda: encode(PHOTO, "PNG", save_all=True, append_images=[light(1, (64, 48))]),
    "JPEG with fill bytes": lambda: files.write_fill_bytes(1),
    "JPEG with long metadata": lambda: files.write_long_tag(200_000),
    "JPEG that is cut off": lambda: encode(PHOTO, "JPEG")[:300],
    "animated WebP": lambda: encode(
        PHOTO, "WEBP", save_all=True, append_images=[light(1, (64, 48))]
    ),
    "WebP with long metadata": lambda: write_exif(70_000, "WEBP"),
    "GIF": lambda: encode(PHOTO, "GIF"),
    "BMP": lambda: encode(PHOTO, "BMP"),
    "TIFF": lambda: encode(PHOTO, "TIFF"),
    "text": lambda: b"hello",
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_is_decoded_in_one_pass(name: str) -> None:
    assert count_passes(PLAIN[name]()) == 1


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_other_files_have_no_known_cost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # Pillow reads its own animation again
    assert count_passes(NOT_PLAIN[name]()) is None


def test_a_progressive_jpeg_takes_a_pass_for_each_scan() -> None:
    content = encode(PHOTO, "JPEG", progressive=True)
    assert count_passes(content) == content.count(b"\xff\xda")


def test_each_scan_of_a_hostile_jpeg_counts() -> None:
    assert count_passes(files.write_scans(64, 100)) == 101


@pytest.mark.parametrize(
    "comment", [b"\xff\xd9", b"\xff\xda" * 9, b""], ids=["end", "scans", "none"]
)
def test_bytes_inside_a_segment_are_neither_a_scan_nor_the_end(comment: bytes) -> None:
    assert count_passes(files.write_scans(64, 100, comment)) == 101


def test_between_the_scans_of_a_plain_jpeg_are_only_segments() -> None:
    content = files.write_scans(64, 1, b"a comment")
    assert count_passes(content) == 2
    assert count_passes(content.replace(b"\xff\xfe", b"\xff\x02")) is None
    assert count_passes(content.replace(b"\xff\xfe\x00\x0b", b"\xff\xfe\x00\x01")) is None


@pytest.mark.parametrize("comment", [None, b"\xff\xd9"], ids=["no comment", "end"])
@pytest.mark.parametrize(
    "filling", [b"\xff", b"\xff\0", b"\xff\x01ab"], ids=["fill", "zero", "junk"]
)
def test_scans_are_counted_in_a_file_that_is_not_plain(
    filling: bytes, comment: bytes | None
) -> None:
    few, many = (files.write_scans(64, scans, comment) for scans in (100, MAX_SCANS))
    check_scans(few[:2] + filling + few[2:])
    with pytest.raises(InvalidImage, match=f"more than {MAX_SCANS} scans"):
        check_scans(many[:2] + filling + many[2:])


def test_segments_between_scans_count() -> None:
    content = files.write_scans(64, 1, b"")
    with pytest.raises(InvalidImage, match=f"more than {MAX_SEGMENTS} segments"):
        count_passes(content.replace(b"\xff\xfe\0\2", b"\xff\xfe\0\2" * 2 * MAX_SEGMENTS))


def test_what_follows_the_end_of_a_jpeg_does_not_count() -> None:
    content = encode(PHOTO, "JPEG", progressive=True)
    assert count_passes(content + b"\xff\xda" * 1000) == count_passes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (files.write_segments(MAX_SEGMENTS + 1), f"more than {MAX_SEGMENTS} segments"),
        (files.write_scans(64, MAX_SCANS), f"more than {MAX_SCANS} scans"),
        (
            files.insert_chunks([files.chunk(b"teSt", b"")] * MAX_CHUNKS),
            f"more than {MAX_CHUNKS} chunks",
        ),
    ],
    ids=["segments", "scans", "chunks"],
)
def test_a_file_with_absurdly_many_parts_is_rejected(content: bytes, sentence: str) -> None:
    with pytest.raises(InvalidImage, match=sentence):
        count_passes(content)


def test_every_cut_of_a_plain_file_is_read_without_an_error() -> None:
    for name in ("PNG", "JPEG", "WebP"):
        content = PLAIN[name]()
        for length in range(0, len(content), 7):
            count_passes(content[:length])


@pytest.mark.parametrize(
    ("mode", "subsampling", "expected"),
    [
        ("L", "4:0:0", 1),
        ("RGB", "4:2:0", 1.5),
        ("RGB", "4:2:2", 2),
        ("RGB", "4:4:4", 3),
        ("RGBA", "4:2:0", 2.5),
    ],
)
def test_planes_of_an_avif_are_counted_as_its_streams_store_them(
    mode: str, subsampling: str, expected: float
) -> None:
    content = encode(PHOTO.convert(mode), "AVIF", subsampling=subsampling)
    assert count_plane_bytes(content, "A" in mode) == expected
    deep = bytearray(content)
    deep[content.index(b"av1C") + 6] |= 0b0100_0000
    assert count_plane_bytes(bytes(deep), "A" in mode) == 2 * expected


@pytest.mark.parametrize(
    ("mode", "sampling", "expected"),
    [
        ("L", "420", 1),
        ("RGB", "420", 1.5),
        ("RGB", "422", 2),
        ("RGB", "444", 3),
        ("RGBA", "420", 2.5),
    ],
)
def test_planes_of_a_heic_are_counted_as_its_streams_store_them(
    mode: str, sampling: str, expected: float
) -> None:
    content = encode(PHOTO.convert(mode), HEIC, chroma=sampling)
    assert count_plane_bytes(content, "A" in mode) == expected
    deep = bytearray(content)
    deep[content.index(b"hvcC") + 4 + 17] |= 2
    assert count_plane_bytes(bytes(deep), "A" in mode) == 2 * expected


def test_an_avif_whose_streams_say_nothing_is_taken_for_the_largest_kind() -> None:
    assert count_plane_bytes(b"", False) == 8
    assert count_plane_bytes(b"av1C" * 1000, False) == 8
    assert count_plane_bytes(b"av1C", False) == 6
    assert count_plane_bytes(b"hvcC", False) == 6


def encode_digit(file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("L", (28, 28), 7).save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode_digit("PNG"), True),
        (encode_digit("JPEG"), True),
        (encode_digit("JPEG", progressive=True), False),
        (encode_digit("PNG", icc_profile=PROFILE), False),
        (write_png_with_text("a", True), False),
        (encode_digit("GIF"), False),
        (encode_digit("TIFF"), False),
        (encode(PHOTO, "BMP"), False),
    ],
    ids=["PNG", "JPEG", "progressive", "profile", "text", "GIF", "TIFF", "BMP"],
)
def test_only_the_simplest_files_are_opened_on_the_event_loop(
    content: bytes, expected: bool
) -> None:
    assert is_tiny_plain(content) == expected
