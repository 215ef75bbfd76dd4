"""A body to images and parameters: multipart, JSON or raw, all three for every call.

Knows no image format and no parameter by name but those that carry images.
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
    """What a request carries."""

    images: list[bytes | BadRequest] = field(default_factory=list)  # a fault in one is its own
    several: bool = False  # sent as a list
    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def read_form(content_type: str, body: bytes, query: Iterable[tuple[str, str]]) -> Form:
    """Sort out the body by its declared type, then the URL's parameters.

    Raises:
        BadRequest: malformed multipart or JSON, or an empty body.
    """
    if not body:
        raise BadRequest("The body is empty: send an image, as form field, JSON or raw bytes.")
    media_type, options = parse_options_header(content_type)
    if media_type == MULTIPART_TYPE:
        form = _read_multipart(body, options.get("boundary", ""))
    elif media_type == JSON_TYPE:
        form = _read_json(body)
    else:  # curl --data-binary declares a form, others a type of their own or none
        form = Form([body])
    for name, value in query:
        form.values[name].append(value)
    return form


def _read_multipart(body: bytes, boundary: str) -> Form:
    form = Form()
    if not boundary:
        raise BadRequest("The multipart body has no boundary in its Content-Type: name it there.")
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
    except MultipartError as fault:
        raise BadRequest(f"The multipart body is malformed: {fault}.") from None
    return form


def _add_part(form: Form, segment: MultipartSegment, content: bytes) -> None:
    if segment.name == "image":
        form.images.append(content or BadRequest("The field 'image' is empty: send a picture."))
        return
    if len(content) > MAX_TEXT_BYTES:
        raise BadRequest(f"The field '{segment.name}' is longer than {MAX_TEXT_BYTES} bytes.")
    try:
        form.values[segment.name].append(content.decode())
    except UnicodeDecodeError:
        raise BadRequest(f"The field '{segment.name}' is no UTF-8 text.") from None


def _read_json(body: bytes) -> Form:
    form = Form()
    for name, value in parse_json_object(body, '{"image": "<base64>"}').items():
        if name == "image":
            form.images.append(decode_base64_image(value))
        elif name == "images":
            if not isinstance(value, list):
                raise BadRequest("'images' is no list: send the pictures as base64 in one.")
            form.images.extend(decode_base64_image(item) for item in value)
            form.several = True
        elif isinstance(value, list):
            form.values[name].extend(value)
        elif value is not None:
            form.values[name].append(value)
    return form


def parse_json_object(document: bytes, example: str) -> dict[str, Any]:
    """A JSON object, in which no key is given twice.

    Raises:
        BadRequest: it is none; the sentence shows the `example`.
    """
    try:
        loaded = json.loads(document, object_pairs_hook=_take_once)
    except (ValueError, RecursionError) as fault:
        raise BadRequest(f"The body is no JSON: {fault}.") from None
    if not isinstance(loaded, dict):
        raise BadRequest(f"The body is no JSON object: send one like {example}.")
    return loaded


def _take_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    taken = dict(pairs)
    if len(taken) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"'{twice}' was given {names.count(twice)} times: give it once.")
    return taken


def decode_base64_image(text: object) -> bytes | BadRequest:
    """The bytes of an image, or the fault, which is this image's own."""
    if not isinstance(text, str) or not text:
        return BadRequest("An image in JSON must be a non-empty string of base64.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return BadRequest(
            "The image is no valid base64: encode the file's bytes, without a prefix."
        )
