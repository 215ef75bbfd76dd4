"""The texts and pictures for people in a card are bounded and of known kinds."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from service.artifact.card import MAX_EXAMPLE_BYTES, Card
from tests.service.quadrants_model import LABELS, encode, light, make_card

GOLDEN = {"image": "", "target": 0, "label": LABELS[0], "probabilities": [1], "cam": [[0]]}
IMAGE = base64.b64encode(encode(light(0))).decode()
LARGE = base64.b64encode(b"\xff\xd8\xff" + bytes(MAX_EXAMPLE_BYTES // 2)).decode()


def make(**changes: Any) -> Card:
    """A card with two golden tests and these changes."""
    return Card.model_validate(make_card(golden=[GOLDEN, GOLDEN], **changes))


def test_a_card_may_introduce_its_model_to_people() -> None:
    example = {"image": IMAGE, "title": "a light", "label": LABELS[0], "credit": "us", "own": 1}
    card = make(title="Lights", summary="Finds the light.", examples=[example] * 6)
    assert (card.title, card.summary, len(card.examples)) == ("Lights", "Finds the light.", 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 81}, "title"),
        ({"summary": "x" * 401}, "summary"),
        ({"examples": [{"image": IMAGE, "title": "x"}] * 7}, "examples"),
        ({"examples": [{"image": IMAGE}]}, "title"),
        ({"examples": [{"image": "PHN2Zz4=", "title": "an SVG"}]}, "must be a JPEG, PNG or WebP"),
        ({"examples": [{"image": "not base64!", "title": "x"}]}, "must be a JPEG, PNG or WebP"),
        ({"examples": [{"image": LARGE, "title": "x"}] * 2}, "at most 200000 bytes"),
        ({"examples": [{"image": IMAGE, "title": "x", "label": "dog"}]}, "one of 'labels'"),
    ],
)
def test_texts_and_pictures_that_a_page_could_not_show_are_rejected(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**changes)
