"""An error as gRPC says it: a code instead of a status, and the sentence.

Both stand in the answer's headers, so this module knows no messages.
"""

from urllib.parse import quote

from starlette.responses import Response

from service.errors import ApiError

INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 8, 12, 13, 14, 16
CODES = {
    "internal": INTERNAL,
    "method_not_allowed": UNIMPLEMENTED,
    "model_not_found": NOT_FOUND,
    "not_found": UNIMPLEMENTED,  # the call, not the model
    "not_ready": UNAVAILABLE,
    "overloaded": RESOURCE_EXHAUSTED,
    "payload_too_large": RESOURCE_EXHAUSTED,
    "request_timeout": DEADLINE_EXCEEDED,
    "timeout": DEADLINE_EXCEEDED,
    "unauthorized": UNAUTHENTICATED,
}  # all others are faults of the request
SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
MAX_MESSAGE_CHARACTERS = 1000  # clients take only a few kilobytes of headers


def make_grpc_error(error: ApiError) -> Response:
    """Make the response to a call that failed."""
    code = CODES.get(error.code, INVALID_ARGUMENT)
    sentence = error.message
    if len(sentence) > MAX_MESSAGE_CHARACTERS:
        sentence = sentence[:MAX_MESSAGE_CHARACTERS] + "…"
    headers = {"grpc-status": str(code), "grpc-message": quote(sentence, safe=SAFE)}
    return Response(status_code=error.status, headers=error.headers | headers)
