"""A whole file of a kind that cannot be decoded is not called truncated."""

import io
import struct

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from service.errors import InvalidImage, UnsupportedMediaType
from service.imaging import file_kinds
from service.imaging.decoding import decode_image, open_image
from service.imaging.file_kinds import find_branded_format
from tests import tiff
from tests.attacks.picture_files import write_larger_heic
from tests.service.imaging.test_geometry import make_input
from tests.service.quadrants_model import encode

MAX_PIXELS = 50_000_000
BYTES, FLOATS = np.zeros((8, 8, 13), np.uint8), np.zeros((8, 8, 3), np.float32)
GRAY = np.add.outer(np.arange(600), np.arange(800)).astype(np.uint8)
DNG_VERSION = 50706


def write_lossless_jpeg(gray: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """A JPEG of process 14 (SOF3): each pixel's difference to its left neighbour."""
    height, width = gray.shape
    before = np.concatenate([np.r_[[128], gray[:-1, 0]][:, None], gray[:, :-1]], axis=1)
    bits = []
    for difference in (gray.astype(int) - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")  # the code table has 17 codes of five bits
        if size:
            bits.append(f"{difference + (difference < 0) * ((1 << size) - 1):0{size}b}")
    joined = "".join(bits)
    joined += "1" * (-len(joined) % 8)
    scan = int(joined, 2).to_bytes(len(joined) // 8).replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, 8, height, width, 1, 1, 0x11, 0)
    lengths = bytes([0, 0, 0, 0, 17, *[0] * 11])
    table = struct.pack(">HHB", 0xFFC4, 36, 0) + lengths + bytes(range(17))
    start = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + table + start + scan + b"\xff\xd9"


def write_12_bit_jpeg() -> bytes:
    content = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 1], content[frame + 4] = 0xC1, 12
    return bytes(content)


KINDS = {
    "TIFF with 5 samples of 8 bits per pixel": tiff.write_tiff(BYTES[..., :5]),
    "TIFF with 13 samples of 8 bits per pixel": tiff.write_tiff(BYTES, ">"),
    "TIFF with 3 samples of 32 bits (floating point) per pixel in RGB": tiff.write_tiff(
        FLOATS, photometric=tiff.RGB
    ),
    "TIFF with 1 sample of 16 bits (floating point) per pixel": tiff.write_tiff(
        FLOATS[..., 0].astype(np.float16)
    ),
    "TIFF with compression 34712": tiff.write_tiff(BYTES[..., 0], compression=34712),
    "camera's raw file (DNG)": tiff.write_tiff(BYTES[..., 0], tags={DNG_VERSION: (1,)}),
    "JPEG with 1 components of 12 bits": write_12_bit_jpeg(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_of_an_unsupported_kind_is_described(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        open_image(KINDS[kind], MAX_PIXELS)
    assert caught.value.message.startswith(f"The content is a {kind}")
    assert "Convert it to " in caught.value.message


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heix"])
def test_a_heic_is_named_where_its_extra_is_missing(
    brands: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_kinds, "heic", None)
    content = (8 + len(brands)).to_bytes(4) + b"ftyp" + brands + bytes(100)
    with pytest.raises(UnsupportedMediaType) as caught:
        open_image(content, MAX_PIXELS)
    assert caught.value.message == (
        "The content is a HEIC, which needs the extra heif (sightglass[heif]). "
        "Convert it to a JPEG, PNG or WebP."
    )


def test_a_heic_whose_pixels_have_another_size_than_its_header_says_is_broken() -> None:
    content = write_larger_heic((128, 128), (64, 64))
    opened = open_image(content, MAX_PIXELS)
    assert opened.size == (64, 64)
    with pytest.raises(InvalidImage, match="corrupt"):
        decode_image(opened, make_input(None, 8, 8))


def test_an_avif_is_named_where_pillow_cannot_decode_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setattr("service.imaging.file_kinds.features.check", lambda _: False)
    with pytest.raises(UnsupportedMediaType, match="an AVIF, which the Pillow that is installed"):
        open_image(encode(Image.new("L", (9, 9)), "AVIF"), MAX_PIXELS)


def test_a_box_that_says_it_is_short_has_no_further_brands() -> None:
    content = (16).to_bytes(4) + b"ftypmp42" + bytes(4) + b"avif"
    assert find_branded_format(content) == ""
    assert find_branded_format((20).to_bytes(4) + content[4:]) == "AVIF"


@pytest.mark.parametrize("content", [b"II*\0", tiff.write_tiff(BYTES[..., :5])[:100]])
def test_a_broken_tiff_is_not_called_unsupported(content: bytes) -> None:
    with pytest.raises(InvalidImage):
        open_image(content, MAX_PIXELS)


def test_tags_that_contradict_each_other_are_not_called_unsupported() -> None:
    for tags in ({tiff.BITS: (8, 8)}, {tiff.BITS: (8,), tiff.SAMPLES: (65535,)}):
        content = tiff.write_tiff(BYTES[..., :5], tags=tags)
        with pytest.raises(InvalidImage):
            open_image(content, MAX_PIXELS)


def test_a_large_lossless_jpeg_is_decoded_as_a_whole() -> None:
    """The decoder has no fractions of it."""
    spec = make_input(64, 64, 64)
    found = decode_image(open_image(write_lossless_jpeg(GRAY), MAX_PIXELS), spec).pixels
    expected = decode_image(open_image(encode(Image.fromarray(GRAY), "PNG"), MAX_PIXELS), spec)
    assert found.tolist() == expected.pixels.tolist()


def test_uncompressed_subsampled_colors_are_not_taken_for_pixels() -> None:
    """Blocks of four brightnesses and two colors each, of one color in all."""
    block = bytes([76] * 4 + [85, 255])  # red
    content = tiff.write_tiff(
        np.frombuffer(block * 16, np.uint8).reshape(8, 12),
        photometric=6,
        tags={tiff.BITS: (8, 8, 8), tiff.SAMPLES: (3,), 530: (2, 2), tiff.SAMPLE_FORMAT: (1,) * 3},
    )
    content = content.replace(
        struct.pack("<HHII", 256, 4, 1, 12), struct.pack("<HHII", 256, 4, 1, 8)
    )
    pixels = decode_image(open_image(content, MAX_PIXELS), make_input(8, 8, 8)).pixels
    assert np.abs(pixels.astype(int) - (254, 0, 0)).max() <= 2
    assert Image.open(io.BytesIO(content)).size == (8, 8)
