"""Rejects a request before it reaches the application, if the queue is full.

Under overload, most of the work is rejecting. Here it needs neither a task nor the body: the
protocol writes the response and skips the body. The application rejects all other requests.
"""

from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.routing import Endpoint
from service.errors import Overloaded
from service.http.request import Request, run_without_waiting
from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.server.access import Cors
from service.server.dispatcher import Dispatcher, finish_response, reject
from service.settings import Settings

MAX_SKIPPED_BYTES = 262_144  # skipping a longer body would cost more than a new connection
OVERLOAD = "sightglass.overload"  # in the scope: the error to answer with


class EarlyRejection:
    """Decides from the headers alone. The protocol calls it for every request."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        admission: Admission,
        endpoints: Sequence[Endpoint],
        dispatcher: Dispatcher,
    ) -> None:
        self._lifecycle = lifecycle
        self._admission = admission
        self._dispatcher = dispatcher
        self._max_bytes = min(
            MAX_SKIPPED_BYTES, settings.max_upload_bytes, admission.max_body_bytes
        )
        self._paths = {
            endpoint.path for endpoint in endpoints if Overloaded in endpoint.operation.errors
        }
        origins = settings.cors_origins
        self._app: ASGIApp = Cors(self._reject, origins) if origins else self._reject

    def __call__(self, scope: Scope) -> bytes | None:
        """Return the whole response, or None if the application should answer."""
        overload = self._admission.find_overload(self._dispatcher.timeout_seconds)
        if overload is None or self._lifecycle.draining:
            return None
        scope[OVERLOAD] = overload
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        run_without_waiting(self._app(scope, _receive_nothing, collect))
        return _encode(*messages) if messages else None

    async def _reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the rejection. Send nothing if another error may come first."""
        request = Request(scope, receive, self._dispatcher.timeout_seconds)
        endpoint, is_allowed = self._dispatcher.find_endpoint(scope)
        if endpoint is None or not is_allowed or endpoint.path not in self._paths:
            return
        is_short = 0 < (request.content_length or 0) <= self._max_bytes
        if not is_short or not self._dispatcher.api_keys.accept(request):
            return
        response, code = reject(scope[OVERLOAD], request)
        finish_response(response, request)
        await response(scope, receive, send)
        self._dispatcher.record(request, endpoint, response.status_code, code)


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}


def _encode(start: Message, body: Message) -> bytes:
    """Encode a response in HTTP/1.1, for a connection that stays open."""
    status: int = start["status"]
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        f"date: {_format_date(int(time()))}".encode(),
        *(name + b": " + value for name, value in start["headers"]),
    ]
    content: bytes = body["body"]
    return b"\r\n".join([*lines, b"", b""]) + content


@lru_cache(1)
def _format_date(second: int) -> str:
    return formatdate(second, usegmt=True)
