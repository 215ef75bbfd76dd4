"""Base64 is read in all the forms that clients write, whole or in pieces."""

import base64
import json
import random
from collections.abc import Callable

import pytest

from service.errors import ApiError, PayloadTooLarge
from service.http.base64_text import PIECE_BYTES, decode_image

MAX_BYTES = 1_000_000
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "no padding": lambda text: text.rstrip("="),
    "lines": lambda text: "\n".join(text[i : i + 76] for i in range(0, len(text), 76)) + "\n",
    "lines of mail": lambda text: "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
    "URL alphabet": lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
    "prefix": lambda text: "data:image/png;base64," + text,
    "prefix with a parameter": lambda text: "DATA:image/png;name=a.png;Base64," + text,
}
ESCAPES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "line breaks": lambda text: json.dumps(text)[1:-1],
    "slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "plus signs": lambda text: json.dumps(text)[1:-1].replace("+", "\\u002B"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 100, PIECE_BYTES * 3 // 4, PIECE_BYTES + 1, 500_000])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_bytes(size: int, form: Callable[[str], str]) -> None:
    content = random.Random(size).randbytes(size)
    text = form(base64.b64encode(content).decode())
    assert decode_image(text.encode(), MAX_BYTES, is_json=False) == content
    for escape in ESCAPES.values():
        escaped = memoryview(escape(text).encode())
        assert decode_image(escaped, MAX_BYTES, is_json=True) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "non-empty"),
        ("data:image/png;base64,", "non-empty"),
        ("data:image/png,AAAA", "data:image/png;base64,"),
        ("data:" + "x" * 1000, "data:image/png;base64,"),
        ("A", "incomplete"),
        ("AA=A", "incomplete"),
        ("AAAA AAAA", "' '"),
        ("AA*A", "'*'"),
        ("A" * PIECE_BYTES + "*", "'*'"),
        ("A" * PIECE_BYTES + "é", "'é'"),
        ("A" * (PIECE_BYTES - 2) + "==AAAA", "after its '='"),
        ("A" * PIECE_BYTES + "A", "incomplete"),
        ("A" * PIECE_BYTES + "\\", r"'\\\\'"),
        ("\\x" * PIECE_BYTES, r"'\\\\'"),
    ],
)
def test_other_text_is_rejected_with_the_reason(text: str, message: str) -> None:
    for is_json in (False, True):
        error = decode_image(text.encode(), MAX_BYTES, is_json=is_json)
        assert isinstance(error, ApiError)
        assert message.replace("\\\\\\\\", "\\\\") in error.message
        assert len(error.message) < 250
        assert error.__traceback__ is None


def test_a_longer_image_is_not_decoded() -> None:
    error = decode_image(b"A" * 3_000_000, MAX_BYTES, is_json=False)
    assert isinstance(error, PayloadTooLarge)
    assert str(MAX_BYTES) in error.message
