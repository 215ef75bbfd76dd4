"""What a client can do wrong, or find the server unable to do: a sentence, code and status each.

One class per status of the HTTP contract; whoever notices the fault raises it, and only the
front door (`app`) turns it into a response. A programmer's fault is an assert, never one of these.
"""

from collections.abc import Mapping

from typing_extensions import TypedDict


class ErrorDetail(TypedDict):
    """What was wrong, and what would be right."""

    code: str
    message: str
    request_id: str


class ApiError(Exception):
    """A request that gets no answer but one sentence: what was wrong, what would be right."""

    status = 500
    code = "internal"

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        # JSON may carry half a surrogate pair, UTF-8 may not: it is told as an escape.
        self.message = message.encode(errors="backslashreplace").decode()
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> "ErrorDetail":
        """The `error` object of the answer."""
        return {"code": self.code, "message": self.message, "request_id": request_id}


class InternalError(ApiError):
    """Our fault."""


class BadRequest(ApiError):
    """A field missing, unknown, given twice or out of range; malformed JSON or multipart."""

    status, code = 400, "bad_request"


class Unauthorized(ApiError):
    """API keys are set and the request carries none of them."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            "This service wants an API key: send it as 'Authorization: Bearer <key>'.",
            {"www-authenticate": "Bearer"},
        )


class NotFound(ApiError):
    """No such path."""

    status, code = 404, "not_found"


class ModelNotFound(ApiError):
    """No such model, or no such version of it."""

    status, code = 404, "model_not_found"


class MethodNotAllowed(ApiError):
    """The path is right, the method is not."""

    status, code = 405, "method_not_allowed"


class NotAcceptable(ApiError):
    """None of the media types in `Accept` can be served here."""

    status, code = 406, "not_acceptable"


class RequestTimeout(ApiError):
    """The body did not arrive in time."""

    status, code = 408, "request_timeout"


class PayloadTooLarge(ApiError):
    """More bytes or more images than even an idle server takes."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(ApiError):
    """The bytes are no image of an accepted format."""

    status, code = 415, "unsupported_media_type"


class InvalidImage(ApiError):
    """An image of an accepted format, but truncated or corrupt."""

    status, code = 422, "invalid_image"


class ImageTooLarge(ApiError):
    """More pixels than allowed, by the picture's own header."""

    status, code = 422, "image_too_large"


class UnknownLabel(ApiError):
    """The model knows no such label."""

    status, code = 422, "unknown_label"


class Overloaded(ApiError):
    """No room now; `Retry-After` says when to come back."""

    status, code = 429, "overloaded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, {"retry-after": str(retry_after)})


class NotReady(ApiError):
    """Still loading, or already draining."""

    status, code = 503, "not_ready"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, {"retry-after": str(retry_after)})


class Timeout(ApiError):
    """Accepted, but not answered before the deadline."""

    status, code = 504, "timeout"
