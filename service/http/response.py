"""Responses: JSON, and sending while the body of the request may still be on its way.

This module knows bytes and headers. It knows nothing of what they say.
"""

from collections.abc import Callable
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Send

from service.http.form import JSON_TYPE
from service.http.request import Request

SMALL_BYTES = 4096  # of a response that is handed over at once, and not counted


class JSONResponse(Response):
    """A response in JSON. pydantic writes it faster than the standard library."""

    media_type = JSON_TYPE

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return encode_json(content)


def encode_json(content: Any) -> bytes:
    """Return the content as JSON in UTF-8."""
    encoded: bytes = to_json(content)
    return encoded


async def send_response(
    response: Response, request: Request, send: Send, hold: Callable[[int], None]
) -> None:
    """Send a response. If the body is still coming, read it afterwards, then close.

    `hold` is called with the size of a larger response, and with the negative size once the client
    has taken it or has disconnected.
    """
    request.discard_received_body()
    is_whole = request.body_is_read or request.content_length == 0
    size = len(response.body)
    if is_whole and size <= SMALL_BYTES:
        await response(request.scope, request.receive, send)
        return
    if not is_whole:
        response.headers["connection"] = "close"
    hold(size)
    try:
        head = {"status": response.status_code, "headers": response.raw_headers}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        if not is_whole:
            await request.discard_body()
        await send({"type": "http.response.body", "body": b""})  # waits until little is left
    finally:
        hold(-size)
