"""A picture that cannot be decoded ends a command with a sentence that names its file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiff
from tests.contract.pictures import announce_size, cut_short
from tests.service.quadrants_model import encode
from training.errors import UserError
from training.imaging.decoding import decode_picture

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
FAULTS = {
    "empty": (b"", "is not a picture that can be decoded"),
    "a text": (b"no picture", "is not a picture that can be decoded"),
    "half a PNG": (cut_short(encode(Image.fromarray(NOISE), "PNG")), "is truncated or corrupt"),
    "half a JPEG": (cut_short(encode(Image.fromarray(NOISE), "JPEG")), "is truncated or corrupt"),
    "half a TIFF": (
        cut_short(encode(Image.fromarray(NOISE), "TIFF")),
        r"is (truncated or corrupt|not a picture)",
    ),
    "above the limit": (announce_size(14000, 13000), "has 14000 x 13000 pixels, but at most 5000"),
    "far above it": (announce_size(20000, 20000), "has 20000 x 20000 pixels, but at most 5000"),
    "five bands": (
        tiff.write_tiff(np.zeros((8, 8, 5), np.uint8)),
        "is a TIFF with 5 samples of 8 bits per pixel, which cannot be decoded. Convert it",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_sentence_names_the_file_and_the_fault(name: str, tmp_path: Path) -> None:
    content, sentence = FAULTS[name]
    file = tmp_path / "katze.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"katze\.jpg {sentence}"):
        decode_picture(file, "RGB")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"katze\.jpg cannot be read: No such file"):
        decode_picture(tmp_path / "katze.jpg", "RGB")


def test_the_limit_is_the_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(Image.new("L", (20, 10)), "PNG")
    monkeypatch.setenv("SIGHTGLASS_MAX_IMAGE_PIXELS", "200")
    assert decode_picture(content, "L").size == (20, 10)
    monkeypatch.setenv("SIGHTGLASS_MAX_IMAGE_PIXELS", "199")
    with pytest.raises(UserError, match="has 20 x 10 pixels, but at most 199 in total"):
        decode_picture(content, "L")
    monkeypatch.setenv("SIGHTGLASS_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(UserError, match='must be a positive integer, got "many"'):
        decode_picture(content, "L")


def test_broken_exif_data_does_not_stop_training() -> None:
    exif = tiff.write_exif_with_a_broken_rational(6)
    content = encode(Image.new("L", (20, 10)), "JPEG", exif=b"Exif\0\0" + exif)
    assert decode_picture(content, "L").size == (10, 20)
