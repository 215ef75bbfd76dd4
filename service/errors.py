"""The errors of the API. Each has a status, a code and a sentence for the client.

There is one class for each code. The function that finds an error raises it, and only the
dispatcher turns it into a response. A programmer's mistake is an assert, never one of these.
"""

import os
from collections.abc import Mapping

from typing_extensions import TypedDict

MAX_EXCERPT = 80  # characters


def excerpt(text: str) -> str:
    """Return what a client sent for a sentence: the beginning, if it is long."""
    return text if len(text) <= MAX_EXCERPT else text[:MAX_EXCERPT] + "…"


def make_printable(text: str) -> str:
    """Return a text for the terminal or the log: what would control them becomes "?"."""
    return "".join(char if char.isprintable() else "?" for char in text)


def decode_name(name: str) -> str:
    """Return the name of a file as text. Bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode(errors="replace")


class ErrorDetail(TypedDict):
    """What is wrong, and what to do."""

    code: str
    message: str
    request_id: str


class ApiError(Exception):
    """A request that fails. The message is one sentence: what is wrong, and what to do."""

    status = 500
    code = "internal"

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        # JSON may have half a surrogate pair, but UTF-8 may not: write it as an escape.
        self.message = message.encode(errors="backslashreplace").decode()
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> "ErrorDetail":
        """Return the `error` object of the response."""
        return {"code": self.code, "message": self.message, "request_id": request_id}


class InternalError(ApiError):
    """An error of the server, never of the request."""


class BadRequest(ApiError):
    """A field is missing, unknown, given twice or out of range; or the body is malformed."""

    status, code = 400, "bad_request"


class Unauthorized(ApiError):
    """The server needs an API key, and the request has no valid one."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            "This server needs an API key: send it as 'Authorization: Bearer <key>'.",
            {"www-authenticate": "Bearer"},
        )


class NotFound(ApiError):
    """There is no such path."""

    status, code = 404, "not_found"


class ModelNotFound(ApiError):
    """There is no such model, or no such version of it."""

    status, code = 404, "model_not_found"


class MethodNotAllowed(ApiError):
    """The path does not support this method."""

    status, code = 405, "method_not_allowed"


class NotAcceptable(ApiError):
    """The server has none of the media types in `Accept`."""

    status, code = 406, "not_acceptable"


class RequestTimeout(ApiError):
    """The body did not arrive in time."""

    status, code = 408, "request_timeout"


class PayloadTooLarge(ApiError):
    """The request has more bytes or images than an idle server accepts."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(ApiError):
    """The bytes are not an image of a supported format."""

    status, code = 415, "unsupported_media_type"


class InvalidImage(ApiError):
    """The image has a supported format, but it is truncated or corrupt."""

    status, code = 422, "invalid_image"


class ImageTooLarge(ApiError):
    """The image has more pixels than allowed, by its own header."""

    status, code = 422, "image_too_large"


class UnknownLabel(ApiError):
    """The model has no such label."""

    status, code = 422, "unknown_label"


class Overloaded(ApiError):
    """The queue is full; `Retry-After` says when to try again."""

    status, code = 429, "overloaded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, {"retry-after": str(retry_after)})


class NotReady(ApiError):
    """The server or the model is still loading, or the server is shutting down."""

    status, code = 503, "not_ready"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, {"retry-after": str(retry_after)})


class Timeout(ApiError):
    """The request was accepted, but not answered before its deadline."""

    status, code = 504, "timeout"
