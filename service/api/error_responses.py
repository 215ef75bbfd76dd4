"""How an error looks as a response: an object, or for clients of the protocols a sentence."""

import re
from typing import Any

from starlette.responses import Response

from service.api.grpc.errors import make_grpc_error
from service.api.v2.schemas import ProtocolError
from service.errors import ApiError
from service.http.request import EQUIVALENT_PATH, Request
from service.http.response import JSONResponse
from service.schemas import ErrorAnswer

PROTOCOL_PATH = re.compile("/v[12](/|$)")


def make_error_response(error: ApiError, request: Request) -> Response:
    """Make the response to a request that failed."""
    if EQUIVALENT_PATH in request.scope:
        return make_grpc_error(error)
    is_protocol = PROTOCOL_PATH.match(request.path)
    content = error.message if is_protocol else error.body(request.id)
    return JSONResponse({"error": content}, error.status, error.headers)


def choose_error_schema(path: str) -> Any:
    """Return the type of the errors under a path."""
    return ProtocolError if PROTOCOL_PATH.match(path) else ErrorAnswer
