"""What a call can end with instead of an answer: one exception for each kind of error."""

from typing import ClassVar


class SightglassError(Exception):
    """The service did not answer as asked. The message is one sentence for people.

    `status` is the HTTP status and None if there was no answer. `request_id` finds the request in
    the service's log.
    """

    codes: ClassVar[tuple[str, ...]] = ()  # what the service calls it

    def __init__(self, message: str, status: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class BadRequest(SightglassError):
    """A parameter is missing, unknown or out of range."""

    codes = ("bad_request", "not_acceptable", "not_found", "method_not_allowed")


class Unauthorized(SightglassError):
    """The service wants an API key, and this one is not among its own."""

    codes = ("unauthorized",)


class ModelNotFound(SightglassError):
    """There is no such model or version. The message lists the models that there are."""

    codes = ("model_not_found",)


class UnknownLabel(SightglassError):
    """The model has no such label. The message suggests some."""

    codes = ("unknown_label",)


class InvalidPicture(SightglassError):
    """The picture is in no accepted format, corrupt, or has too many pixels."""

    codes = ("unsupported_media_type", "invalid_image", "image_too_large")


class TooLarge(SightglassError):
    """The picture has more bytes than the service takes."""

    codes = ("payload_too_large",)


class Overloaded(SightglassError):
    """The service has no room, also after the time that this client waits."""

    codes = ("overloaded",)


class NotReady(SightglassError):
    """The service still loads its models, or stops, also after the time that this client waits."""

    codes = ("not_ready",)


class Timeout(SightglassError):
    """The service or the network took too long."""

    codes = ("timeout", "request_timeout")


class ServiceFailure(SightglassError):
    """A fault of the service, or an answer that is not the service's."""

    codes = ("internal",)


class ConnectionFailed(SightglassError):
    """The service could not be reached, or the connection broke."""


KINDS = (
    *(BadRequest, Unauthorized, ModelNotFound, UnknownLabel, InvalidPicture, TooLarge),
    *(Overloaded, NotReady, Timeout, ServiceFailure),
)
BY_CODE = {code: kind for kind in KINDS for code in kind.codes}


def make_error(
    code: str, message: str, status: int | None = None, request_id: str = ""
) -> SightglassError:
    """Return the exception for a code of the service."""
    return BY_CODE.get(code, ServiceFailure)(message, status, request_id)
