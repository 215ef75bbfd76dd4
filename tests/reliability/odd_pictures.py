"""What is answered to each odd file of the data sets: Pillow's own broken and unusual pictures."""

from pathlib import Path
from typing import NamedTuple

from tests.server import Server


class Odd(NamedTuple):
    """One file and its answer."""

    name: str
    status: int
    told: str  # the size and first label, or the error's sentence


def ask_each(server: Server, data: Path) -> list[Odd]:
    """Every file of `odd-images`, to the default model."""
    answers = []
    for path in sorted((data / "odd-images").iterdir()):
        answer = server.client.post("/predict", content=path.read_bytes())
        told = answer.json()
        if answer.status_code == 200:
            image, first = told["image"], told["predictions"][0]
            sentence = f"{image['width']} x {image['height']}, {first['label']}"
        else:
            sentence = f"{told['error']['code']}: {told['error']['message']}"
        answers.append(Odd(path.name, answer.status_code, sentence))
    return answers
