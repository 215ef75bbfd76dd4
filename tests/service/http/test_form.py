"""Forms: the heads of their parts have a limit, and which bodies are parsed at all."""

import pytest

from service.errors import BadRequest
from service.http.form import Form, is_raw, read_form
from service.http.multipart_body import MAX_HEADER_BYTES

DISPOSITION = b"Content-Disposition: form-data; name=image"


def read(head: bytes) -> Form:
    """Read a form of one part."""
    body = b"--a\r\n" + head + b"\r\n\r\nx\r\n--a--\r\n"
    return read_form("multipart/form-data; boundary=a", body, [], 100)


def test_a_header_of_a_part_has_a_limit() -> None:
    longest = DISPOSITION + b'; filename="' + b"f" * 900 + b'"'
    assert read(longest).images == [b"x"]
    folded = b"\r\n ".join([DISPOSITION, *[b';a="\\' * 20] * 15])
    for head in (DISPOSITION + b';a="\\' * (MAX_HEADER_BYTES // 5), folded):
        with pytest.raises(BadRequest, match="header length"):
            read(head)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Multipart/Form-Data; boundary=a", "\xa0application/json ;a"],
)
def test_json_and_forms_are_parsed(content_type: str) -> None:
    assert not is_raw(content_type)


@pytest.mark.parametrize("content_type", ["", "image/png", "application/x-www-form-urlencoded"])
def test_other_bodies_are_images(content_type: str) -> None:
    assert is_raw(content_type)
    assert read_form(content_type, b"{}", [], 100).images == [b"{}"]


@pytest.mark.parametrize("head", [DISPOSITION + b"\xff", DISPOSITION + b"\r\nX-Part: \xff"])
def test_a_head_that_is_no_text_is_rejected_in_plain_words(head: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^The head of a part of the form must be UTF-8 text\.$"):
        read(head)
