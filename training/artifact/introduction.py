"""What the card tells people: a title, a summary and examples. Knows nothing of the graph."""

import base64
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.picture_files import list_pictures
from training.errors import UserError

MAX_TITLE, MAX_SUMMARY, MAX_EXAMPLES = 80, 400, 6  # characters, characters, pictures
MAX_EXAMPLE_BYTES = 200_000  # of all examples together, in base64
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")  # JPEG, PNG, WebP


@dataclass(frozen=True)
class IntroductionRequest:
    """The arguments about the texts and pictures for people. None: there is none."""

    title: str | None = None
    summary: str | None = None
    examples: Path | None = None
    examples_credit: str | None = None


def make_introduction(request: IntroductionRequest | None, labels: Sequence[str]) -> dict[str, Any]:
    """The card's `title`, `summary` and `examples`, as far as they are given.

    Raises:
        UserError: a text is too long, or the examples are too many, too large or no pictures.
    """
    made: dict[str, Any] = {}
    if request is None:
        return made
    for name, text, most in (
        ("title", request.title, MAX_TITLE),
        ("summary", request.summary, MAX_SUMMARY),
    ):
        if text is not None:
            made[name] = check_text(name, text, most)
    if request.examples is not None:
        made["examples"] = list(read_examples(request.examples, labels, request.examples_credit))
    return made


def check_text(name: str, text: str, most: int) -> str:
    """The text, if a page can show it on its own."""
    if not 0 < len(text) <= most or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise UserError(
            f"--{name} must be one line of 1 to {most} characters, got {len(text)} characters: "
            f'"{text[:40]}".'
        )
    return text


def read_examples(
    folder: Path, labels: Sequence[str], credit: str | None
) -> Iterator[dict[str, Any]]:
    """The pictures of a folder. A picture in a folder `<label>/` has that label.

    Raises:
        UserError: they are too many or too large, or one is no JPEG, PNG or WebP.
    """
    paths = list_pictures(folder)
    if not 0 < len(paths) <= MAX_EXAMPLES:
        raise UserError(
            f"--examples must be a folder of 1 to {MAX_EXAMPLES} pictures, got {len(paths)} in "
            f"{folder}."
        )
    left = MAX_EXAMPLE_BYTES
    for path in paths:
        with path.open("rb") as file:
            content = file.read(MAX_EXAMPLE_BYTES + 1)  # a longer one is too large in any case
        if not content.startswith(SIGNATURES):
            raise UserError(f"{path} is no JPEG, PNG or WebP. Save the example as one of them.")
        image = base64.b64encode(content).decode()
        left -= len(image)
        if left < 0:
            raise UserError(
                f"The examples in {folder} have more than {MAX_EXAMPLE_BYTES} bytes together in "
                "base64. Make the pictures smaller."
            )
        example = {"image": image, "title": make_title(path)}
        if path.parent.name in labels:
            example["label"] = path.parent.name
        yield example | ({"credit": credit} if credit else {})


def make_title(path: Path) -> str:
    """The name of a file for people. A number in front of it only sorts the files."""
    return re.sub(r"^\d+_", "", path.stem).replace("_", " ")[:MAX_TITLE]
