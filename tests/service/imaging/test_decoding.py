"""Decoding gives the pixels that the model sees, or one sentence that says what is wrong."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.artifact.card import InputSpec
from service.errors import ApiError, ImageTooLarge, InvalidImage, UnsupportedMediaType
from service.imaging.decoding import decode_image, open_image
from service.imaging.geometry import scale_to_longer_side
from tests.heic import HEIC
from tests.service.imaging.test_geometry import make_input
from tests.service.quadrants_model import encode

MAX_PIXELS = 50_000_000
PHOTO = make_input(256, 224, 224)


def draw(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A smooth picture that no rotation or reflection leaves unchanged."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    planes = np.stack([x, y, x * y], axis=-1)
    return Image.fromarray((planes * 255).astype(np.uint8)).convert(mode)


def decode(content: bytes, spec: InputSpec = PHOTO, **options: Any) -> Any:
    return decode_image(open_image(content, MAX_PIXELS), spec, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(400, 300), (300, 400)])
def test_turning_the_small_result_equals_turning_the_whole_picture(
    orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(draw(size), exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        upright = ImageOps.exif_transpose(opened)
    expected = decode(encode(upright), choose_shown_size=lambda _: (60, 80))
    found = decode(content, choose_shown_size=lambda _: (60, 80))
    assert upright.size == found.size
    assert expected.crop == found.crop
    assert np.abs(expected.pixels.astype(int) - found.pixels).max() <= 1
    shown = np.asarray(expected.shown, int) - np.asarray(found.shown, int)
    assert np.abs(shown).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("side", [None, 224, 1024])
def test_a_large_jpeg_decoded_at_a_fraction_gives_nearly_the_same_pixels(
    orientation: int, side: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = Image.fromarray(noise).resize((2000, 1500), Image.Resampling.BICUBIC)
    content = encode(photograph, "JPEG", quality=90, exif=exif)
    choose_shown_size = None if side is None else lambda size: scale_to_longer_side(size, side)
    found = decode(content, choose_shown_size=choose_shown_size)
    monkeypatch.setattr("service.imaging.decoding.DRAFT_MARGIN", np.inf)
    expected = decode(content, choose_shown_size=choose_shown_size)
    assert (found.size, found.crop) == (expected.size, expected.crop)
    difference = np.abs(found.pixels.astype(int) - expected.pixels)
    assert difference.mean() < 1
    assert difference.max() < 16
    if side:
        assert found.shown.size == expected.shown.size


def test_a_picture_of_the_input_size_keeps_its_pixels() -> None:
    digit = draw((28, 28), "L")
    expected = np.asarray(digit)[..., np.newaxis]
    found = decode(encode(digit), make_input(28, 28, 28).model_copy(update={"mode": "L"}))
    assert (expected == found.pixels).all()


def test_a_transparent_picture_is_composed_on_white() -> None:
    image = Image.new("RGBA", (256, 256), (255, 0, 0, 0))
    assert decode(encode(image)).pixels.min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "YCbCr", "F", "I"])
def test_every_mode_gives_the_same_middle_gray(mode: str) -> None:
    gray = Image.new("L", (256, 256), 128)
    if mode in ("I;16", "I"):
        levels = np.full((256, 256), 128 * 257, np.uint16)
        image = Image.fromarray(levels if mode == "I;16" else levels.astype(np.int32))
    elif mode == "F":
        image = Image.fromarray(np.full((256, 256), 128 / 255, np.float32))
    else:
        image = gray.convert("RGB").convert(mode)
    pixels = decode(encode(image, "TIFF")).pixels
    expected = 128 if mode != "1" else pixels.mean()
    assert pixels.mean() == pytest.approx(expected, abs=2)
    assert mode != "1" or pixels.mean() == pytest.approx(128, abs=40)


def test_a_thin_picture_is_decoded_without_a_huge_intermediate_one() -> None:
    assert decode(encode(draw((1, 20_000)))).pixels.shape == (224, 224, 3)


def test_too_many_pixels_are_rejected_by_the_header_alone() -> None:
    content = encode(Image.new("1", (20_000, 20_000)))
    with pytest.raises(ImageTooLarge, match="20000 x 20000"):
        open_image(content, MAX_PIXELS)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"I am a text", UnsupportedMediaType),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedMediaType),
        (b"\xff\xd8\xff and no more", InvalidImage),
        (b"\x89PNG\r\n\x1a\n and no more", InvalidImage),
    ],
)
def test_a_file_that_is_no_image_differs_from_a_broken_image(
    content: bytes, error: type[ApiError]
) -> None:
    with pytest.raises(error):
        decode(content)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", HEIC])
def test_a_truncated_picture_is_rejected(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = encode(Image.fromarray(noise), file_format)
    with pytest.raises(InvalidImage):
        decode(content[: len(content) // 2])


def test_every_unusual_picture_is_decoded_or_rejected_with_a_sentence(data_dir: Path) -> None:
    decoded, messages = set(), []
    for path in sorted((data_dir / "odd-images").iterdir()):
        try:
            picture = decode(path.read_bytes(), choose_shown_size=lambda _: (50, 50))
        except (UnsupportedMediaType, InvalidImage, ImageTooLarge) as exc:
            messages.append(exc.message)
        else:
            decoded.add(path.name)
            assert picture.pixels.shape == (224, 224, 3)
            assert picture.shown.size == (50, 50)
    assert all(message.endswith((" image.", " file.", "TIFF.")) for message in messages)
    assert {"hopper.jpg", "pil_sample_cmyk.jpg", "16bit.cropped.tif", "sugarshack.mpo"} <= decoded
