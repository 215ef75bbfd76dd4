"""Titles, summaries and examples for people are checked before they get into a card."""

import base64
from pathlib import Path

import pytest
from PIL import Image

from training.artifact.introduction import IntroductionRequest, make_introduction
from training.errors import UserError

LABELS = ("four", "seven")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two examples, of which one has a label."""
    (tmp_path / "seven").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "2_a_blank_sheet.png")
    Image.new("L", (28, 28)).save(tmp_path / "seven" / "1_a_seven.jpg")
    return tmp_path


def test_files_become_examples_named_for_people(folder: Path) -> None:
    request = IntroductionRequest("Digits", "Reads digits.", folder, "drawn by us")
    made = make_introduction(request, LABELS)
    assert (made["title"], made["summary"]) == ("Digits", "Reads digits.")
    blank, seven = made["examples"]
    assert (blank["title"], seven["title"], seven["label"]) == ("a blank sheet", "a seven", "seven")
    assert "label" not in blank
    assert blank["credit"] == "drawn by us"
    assert base64.b64decode(blank["image"]) == (folder / "2_a_blank_sheet.png").read_bytes()


def test_nothing_given_is_nothing_written() -> None:
    assert make_introduction(None, LABELS) == make_introduction(IntroductionRequest(), LABELS) == {}


@pytest.mark.parametrize(
    ("text", "message"), [("", "got 0 characters"), ("x" * 81, "got 81"), ("a\nb", "one line")]
)
def test_a_title_is_one_short_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_introduction(IntroductionRequest(title=text), LABELS)


def test_examples_are_few_small_and_of_kinds_that_browsers_show(folder: Path) -> None:
    request = IntroductionRequest(examples=folder)
    (folder / "scan.tif").write_bytes(b"II*\0")
    with pytest.raises(UserError, match=r"scan.tif is no JPEG, PNG or WebP"):
        make_introduction(request, LABELS)
    (folder / "scan.tif").unlink()
    (folder / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(150_000))
    with pytest.raises(UserError, match="200000 bytes together"):
        make_introduction(request, LABELS)
    for number in range(5):
        Image.new("L", (2, 2)).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="got 8 in"):
        make_introduction(request, LABELS)
