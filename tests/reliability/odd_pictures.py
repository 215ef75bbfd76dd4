"""Answers for the odd files of the data sets: Pillow's own broken and unusual pictures."""

from pathlib import Path
from typing import NamedTuple

from tests.server import Server


class OddPicture(NamedTuple):
    """One file and its answer."""

    name: str
    status: int
    summary: str  # size and first label, or the error's sentence


def ask_each(server: Server, data: Path) -> list[OddPicture]:
    """Send every file of `odd-images` to the default model."""
    answers = []
    for path in sorted((data / "odd-images").iterdir()):
        answer = server.client.post("/predict", content=path.read_bytes())
        body = answer.json()
        if answer.status_code == 200:
            image, first = body["image"], body["predictions"][0]
            sentence = f"{image['width']} x {image['height']}, {first['label']}"
        else:
            sentence = f"{body['error']['code']}: {body['error']['message']}"
        answers.append(OddPicture(path.name, answer.status_code, sentence))
    return answers
