"""A JSON body means the same whether it is short, or long and cut."""

import json
from typing import Any

import pytest

from service.errors import ApiError, BadRequest, PayloadTooLarge
from service.http.json_body import (
    MAX_REST_BYTES,
    MAX_TEXT_BYTES,
    MAX_TEXTS,
    LongList,
    LongText,
    parse_json_object,
)

LONG = "A" * (MAX_REST_BYTES + 1)


def parse(document: str, **how: Any) -> dict[str, Any]:
    return parse_json_object(document.encode(), "{}", **how)


def test_only_the_long_texts_of_a_long_body_are_cut() -> None:
    shorter = 'quo"te, back\\slash, ä, \n' * 100
    sent = {"image": LONG, "a": shorter, "b": [1, {"c": "x", "d": [shorter]}], "e": None, "f": 1.5}
    parsed = parse(json.dumps(sent))
    image = parsed.pop("image")
    assert isinstance(image, LongText)
    assert bytes(image.view).decode() == sent.pop("image")
    assert parsed == sent
    assert len(repr(image)) < 100


@pytest.mark.parametrize("data", [list(range(30_000)), [[[1, 2], [3, 4]]] * 9000, [1.5] * 30_000])
def test_long_lists_of_numbers_are_cut_if_there_may_be_some(data: list[Any]) -> None:
    sent = {"inputs": [{"name": "a", "data": data, "shape": [1]}, {"data": [2], "name": "b"}]}
    first, second = parse(json.dumps(sent), has_numbers=True)["inputs"]
    assert isinstance(first["data"], LongList)
    assert json.loads(bytes(first["data"].view)) == data
    assert (first["name"], first["shape"], second) == ("a", [1], {"data": [2], "name": "b"})
    with pytest.raises(PayloadTooLarge, match=str(MAX_REST_BYTES)):
        parse(json.dumps(sent))


def test_only_the_announced_part_of_a_body_is_json() -> None:
    document = json.dumps({"image": LONG}).encode()
    parsed = parse_json_object(document + b'"binary', "{}", length=len(document))
    assert bytes(parsed["image"].view).decode() == LONG


def test_a_length_beyond_the_body_ends_with_the_body() -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        parse_json_object(b"{", "{}", length=10**19)


@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        (f'{{"image": "{LONG}', BadRequest, "no closing quote"),
        (f'{{"image": "{LONG}\\"}}', BadRequest, "no closing quote"),
        (f'{{"image": "{LONG}"', BadRequest, "not valid JSON"),
        (f'{{"image": "{LONG}"}}}}', BadRequest, "not valid JSON: Extra data"),
        (f'{{"image": "{LONG}" "a"}}', BadRequest, "not valid JSON"),
        (f'["{LONG}"]', BadRequest, "must be a JSON object"),
        (f'{{"{LONG}": 1}}', BadRequest, "A name in the JSON"),
        (f'{{"image": "{LONG}", "image": ""}}', BadRequest, "'image' was given 2 times"),
        ('{"a": "' + "\\" * 100_000 + '"}', BadRequest, "no closing quote"),
        ('{"a": "' + '\\"' * 100_000 + '"}', PayloadTooLarge, str(MAX_TEXTS)),
        ('{"a": [' + '"",' * 100_000 + "]}", PayloadTooLarge, str(MAX_TEXTS)),
        ("[" * 1_000_000, PayloadTooLarge, str(MAX_REST_BYTES)),
        (" " * 1_000_000 + "{}", PayloadTooLarge, str(MAX_REST_BYTES)),
        # Since Python 3.14, the size of the stack limits how deep lists may be.
        ("[" * 50_000, BadRequest, "not valid JSON: (too many lists|Expecting value)"),
        ('{"a": ' + "9" * 5000 + "}", BadRequest, "a number has more than 4300 digits"),
    ],
)
def test_a_malformed_body_is_rejected_with_the_reason(
    document: str, error: type[ApiError], message: str
) -> None:
    for has_numbers in (False, True):
        with pytest.raises(error, match=message) as caught:
            parse(document, has_numbers=has_numbers)
        assert len(caught.value.message) < 250


def test_bytes_that_are_no_text_are_rejected_in_plain_words() -> None:
    with pytest.raises(BadRequest, match=r"^The body is not valid JSON: it must be UTF-8\.$"):
        parse_json_object(b'{"a": "\xff"}', "{}")


def test_many_names_are_searched_once_for_one_given_twice() -> None:
    names = ",".join(f'"{number}":0' for number in range(7000))
    with pytest.raises(BadRequest, match="'last' was given 2 times"):
        parse("{" + names + ',"last":1,"last":2}')


def test_a_text_that_looks_like_a_place_of_a_cut_is_a_text() -> None:
    sent = {"image": LONG, "target": "0123456789abcdef0", "b": "x" * MAX_TEXT_BYTES}
    parsed = parse(json.dumps(sent))
    assert (parsed["target"], parsed["b"]) == (sent["target"], sent["b"])
