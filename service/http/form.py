"""Request bodies: read images and parameters from multipart, JSON or raw bytes.

This module knows no image format. Of the parameters, it knows only those that hold images.
"""

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from service.errors import BadRequest

MAX_PARTS = 256
MAX_TEXT_BYTES = 65_536  # of one parameter
JSON_TYPE = "application/json"
MULTIPART_TYPE = "multipart/form-data"


@dataclass
class Form:
    """The images and parameters of a request."""

    images: list[bytes | BadRequest] = field(
        default_factory=list
    )  # an unreadable image is an error of its own
    is_list: bool = False  # sent as a JSON list
    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def read_form(content_type: str, body: bytes, query: Iterable[tuple[str, str]]) -> Form:
    """Read the body by its declared type, then the parameters of the URL.

    Raises:
        BadRequest: The body is empty, or malformed multipart or JSON.
    """
    if not body:
        raise BadRequest("The body is empty: send an image as form field, JSON or raw bytes.")
    media_type, options = parse_options_header(content_type)
    if media_type == MULTIPART_TYPE:
        form = _read_multipart(body, options.get("boundary", ""))
    elif media_type == JSON_TYPE:
        form = _read_json(body)
    else:  # raw bytes; curl --data-binary calls them a form, others differently
        form = Form([body])
    for name, value in query:
        form.values[name].append(value)
    return form


def _read_multipart(body: bytes, boundary: str) -> Form:
    form = Form()
    if not boundary:
        raise BadRequest("The Content-Type of a multipart body must name its boundary.")
    parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, max_header_count=16)
    segment: MultipartSegment | None = None
    chunks: list[bytes] = []
    try:
        with parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    segment, chunks = event, []
                elif event:
                    chunks.append(bytes(event))
                else:
                    assert segment
                    _add_part(form, segment, b"".join(chunks))
    except MultipartError as exc:
        raise BadRequest(f"The multipart body is malformed: {exc}.") from None
    return form


def _add_part(form: Form, segment: MultipartSegment, content: bytes) -> None:
    if segment.name == "image":
        form.images.append(content or BadRequest("The field 'image' is empty: send an image."))
        return
    if len(content) > MAX_TEXT_BYTES:
        raise BadRequest(
            f"The field '{segment.name}' must not be longer than {MAX_TEXT_BYTES} bytes."
        )
    try:
        form.values[segment.name].append(content.decode())
    except UnicodeDecodeError:
        raise BadRequest(f"The field '{segment.name}' must be UTF-8 text.") from None


def _read_json(body: bytes) -> Form:
    form = Form()
    for name, value in parse_json_object(body, '{"image": "<base64>"}').items():
        if name == "image":
            form.images.append(decode_base64_image(value))
        elif name == "images":
            if not isinstance(value, list):
                raise BadRequest("'images' must be a list of base64 strings.")
            form.images.extend(decode_base64_image(item) for item in value)
            form.is_list = True
        elif isinstance(value, list):
            form.values[name].extend(value)
        elif value is not None:
            form.values[name].append(value)
    return form


def parse_json_object(document: bytes, example: str) -> dict[str, Any]:
    """Parse a JSON object in which no key is given twice.

    Raises:
        BadRequest: The document is something else. The sentence shows the `example`.
    """
    try:
        loaded = json.loads(document, object_pairs_hook=_make_object)
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"The body is not valid JSON: {exc}.") from None
    if not isinstance(loaded, dict):
        raise BadRequest(f"The body must be a JSON object like {example}.")
    return loaded


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"'{twice}' was given {names.count(twice)} times: give it once.")
    return made


def decode_base64_image(text: object) -> bytes | BadRequest:
    """Return the bytes of an image, or the error, which concerns this image alone."""
    if not isinstance(text, str) or not text:
        return BadRequest("An image in JSON must be a non-empty base64 string.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return BadRequest(
            "The image is not valid base64: encode the bytes of the file, without a prefix."
        )
