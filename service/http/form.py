"""Request bodies: read images and parameters from multipart, JSON or raw bytes.

This module knows no image format. Of the parameters, it knows only those that hold images.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from multipart import MultipartSegment, parse_options_header

from service.errors import ApiError, BadRequest, PayloadTooLarge, excerpt
from service.http.base64_text import decode_image, describe_image_limit
from service.http.body import Body
from service.http.json_body import MAX_TEXT_BYTES, Cut, LongText, parse_json_object
from service.http.multipart_body import MAX_PARTS, read_parts

JSON_TYPE = "application/json"
MULTIPART_TYPE = "multipart/form-data"
PARSED_TYPES = (JSON_TYPE, MULTIPART_TYPE)
IMAGE, FILE = "image", "file"  # names of the picture's field
MAX_CONTENT_TYPE = 1024  # characters


@dataclass
class Form:
    """The images and parameters of a request."""

    images: list[bytes | ApiError] = field(
        default_factory=list
    )  # an unreadable image is an error of its own
    is_list: bool = False  # sent as a JSON list
    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def read_form(
    content_type: str, body: Body, query: Iterable[tuple[str, str]], max_image_bytes: int
) -> Form:
    """Read the body by its declared type, then the parameters of the URL.

    Raises:
        BadRequest: The body is empty, or malformed multipart or JSON.
        PayloadTooLarge: The JSON has too much besides its images.
    """
    if not body:
        raise BadRequest("The body is empty: send an image as form field, JSON or raw bytes.")
    if len(content_type) > MAX_CONTENT_TYPE:
        raise BadRequest(f"The Content-Type is longer than {MAX_CONTENT_TYPE} characters.")
    media_type, options = parse_options_header(content_type)
    if media_type == MULTIPART_TYPE:
        form = _read_multipart(body, options.get("boundary", ""), max_image_bytes)
    elif media_type == JSON_TYPE:
        form = _read_json(body, max_image_bytes)
    else:  # raw bytes; curl --data-binary calls them a form, others differently
        form = Form([_read_raw(body, max_image_bytes)])
    for name, value in query:
        form.values[name].append(value)
    if len(form.values) > MAX_PARTS:
        raise BadRequest(f"The request has more than {MAX_PARTS} parameters: send fewer.")
    return form


def is_raw(content_type: str) -> bool:
    """Return whether a body of this type is one image as it is, so that nothing is parsed."""
    return content_type.partition(";")[0].lower().strip() not in PARSED_TYPES


def _read_raw(body: Body, max_image_bytes: int) -> bytes | ApiError:
    if len(body) > max_image_bytes:
        return PayloadTooLarge(describe_image_limit(max_image_bytes))
    return body[:]


def _read_multipart(body: Body, boundary: str, max_image_bytes: int) -> Form:
    form = Form()
    field = None
    for part, content in read_parts(body, boundary, max_image_bytes):
        name = part.name
        if name not in (IMAGE, FILE):
            form.values[name].append(_read_text_part(part, content))
            continue
        if field not in (name, None):
            raise BadRequest(
                f"The picture was sent as '{IMAGE}' and as '{FILE}': use '{IMAGE}' alone."
            )
        field = name
        if content:
            form.images.append(content)
        elif content is None:
            form.images.append(PayloadTooLarge(describe_image_limit(max_image_bytes)))
        else:
            form.images.append(BadRequest(f"The field '{name}' is empty: send an image."))
    return form


def _read_text_part(part: MultipartSegment, content: bytes | None) -> str:
    name = excerpt(part.name)
    if part.filename is not None:
        raise BadRequest(
            f"The field '{name}' has a file, but the picture's field is '{IMAGE}': rename it."
        )
    if content is None or len(content) > MAX_TEXT_BYTES:
        raise _make_too_long(part.name)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadRequest(
            f"The field '{name}' must be UTF-8 text; the picture's field is '{IMAGE}'."
        ) from None


def _read_json(body: Body, max_image_bytes: int) -> Form:
    form = Form()
    for name, value in parse_json_object(body, '{"image": "<base64>"}').items():
        if name == IMAGE:
            form.images.append(decode_base64_image(value, max_image_bytes))
        elif name == "images":
            if not isinstance(value, list):
                raise BadRequest("'images' must be a list of base64 strings.")
            _check_count(name, value)
            form.images.extend(decode_base64_image(item, max_image_bytes) for item in value)
            form.is_list = True
        else:
            add_parameter(form, name, value)
    return form


def add_parameter(form: Form, name: str, value: Any) -> None:
    """Add a parameter in JSON: one value, a list of values, or null for none.

    Raises:
        BadRequest: There are too many values, or one is too long.
    """
    if isinstance(value, list):
        _check_count(name, value)
        form.values[name].extend(_check_length(name, item) for item in value)
    elif value is not None:
        form.values[name].append(_check_length(name, value))


def decode_base64_image(text: object, max_bytes: int) -> bytes | ApiError:
    """Return the bytes of an image in JSON, or the error, which concerns this image alone."""
    if isinstance(text, LongText):
        image = decode_image(text.view, max_bytes, is_json=True)
        text.release()
        return image
    if not isinstance(text, str):
        return BadRequest("An image in JSON must be a non-empty base64 string.")
    return decode_image(text.encode(errors="replace"), max_bytes, is_json=False)


def _check_count(name: str, values: list[Any]) -> None:
    if len(values) > MAX_PARTS:
        raise BadRequest(
            f"'{excerpt(name)}' has {len(values)} items, but at most {MAX_PARTS} are accepted."
        )


def _check_length(name: str, value: Any) -> Any:
    if isinstance(value, Cut) or (isinstance(value, str) and len(value) > MAX_TEXT_BYTES):
        raise _make_too_long(name)
    return value


def _make_too_long(name: str) -> BadRequest:
    return BadRequest(
        f"The field '{excerpt(name)}' must not be longer than {MAX_TEXT_BYTES} bytes."
    )
