"""Which media type to answer with."""

import pytest

from service.errors import BadRequest, NotAcceptable
from service.http.negotiation import choose_media_type

OFFERS = ("image/png", "image/jpeg", "image/webp", "application/json")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/webp", "image/webp"),
        ("image/jpeg;q=0.4, image/webp;q=0.5", "image/webp"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", "image/webp"),
        ("*/*;q=0.1, image/png;q=0", "image/jpeg"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/*, image/png;q=0.9", "application/json"),
    ],
)
def test_the_best_liked_offer_is_chosen(accept: str, expected: str) -> None:
    assert choose_media_type(accept, OFFERS) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "*/*;q=0", "image/png;q=0"])
def test_what_can_not_be_served_is_refused_with_what_can(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="image/png or image/jpeg"):
        choose_media_type(accept, OFFERS)


def test_a_q_that_is_no_number_is_a_bad_request() -> None:
    with pytest.raises(
        BadRequest, match="q-value in Accept must be a number from 0 to 1, got 'much'"
    ):
        choose_media_type("image/png;q=much", OFFERS)
