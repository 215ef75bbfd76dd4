"""The path of every request: find its endpoint, check access, call it, send and record the outcome.

This is the one place where an error becomes a response. It knows no images and no models.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from service.api.error_responses import make_error_response
from service.api.routing import Route
from service.errors import (
    ApiError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    NotReady,
    RequestTimeout,
    Timeout,
    excerpt,
)
from service.http.request import Request
from service.http.response import send_response
from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.server.access import PREFLIGHT, ApiKeys, answer_preflight
from service.server.otel.attributes import Outcome
from service.server.otel.recorder import RequestRecorder
from service.settings import Settings
from service.telemetry import metrics
from service.telemetry.log import log_request, with_fields

log = logging.getLogger(__name__)
NO_ROUTE = "none"
MAX_PATH_CHARACTERS = 2048  # of a path with names in it
UNCOUNTED_BYTES = 65_536  # of an answer that always finds room
CLIENT_CLOSED = 499  # as nginx calls it; it is never sent, only counted and logged


class Dispatcher:
    """An ASGI application for HTTP requests alone."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        endpoints: Sequence[Route],
        admission: Admission,
        recorder: RequestRecorder | None = None,
    ) -> None:
        self.timeout_seconds = settings.request_timeout_ms / 1000
        self.api_keys = ApiKeys(settings.api_keys, settings.public_paths)
        self._lifecycle = lifecycle
        self._endpoints = endpoints
        self._by_path = {
            endpoint.path: [other for other in endpoints if other.path == endpoint.path]
            for endpoint in endpoints
            if not endpoint.param_convertors
        }
        self._with_parameters = [endpoint for endpoint in endpoints if endpoint.param_convertors]
        self._methods = sorted({endpoint.method for endpoint in endpoints})
        self._admission = admission
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, self.timeout_seconds)
        endpoint, is_allowed = self.find_endpoint(scope)
        code = None
        try:
            response = await self._answer(request, endpoint, is_allowed)
            self._check_room(request, response)
        except ClientDisconnect:
            metrics.DROPPED.labels("client_gone").inc(request.images)
            seconds = perf_counter() - request.started
            self.record(request, endpoint, CLIENT_CLOSED, "client_gone", seconds)
            return
        except Exception as exc:
            response, code = reject(exc, request)
        finish_response(response, request)
        if self._lifecycle.draining:
            response.headers["connection"] = "close"
        seconds = perf_counter() - request.started
        await send_response(response, request, send, self._admission.memory.hold_response)
        self.record(request, endpoint, response.status_code, code, seconds)

    def find_endpoint(self, scope: Scope) -> tuple[Route | None, bool]:
        """Return the endpoint of the path, and whether it is for the method, too."""
        if same_path := self._by_path.get(scope["path"]):  # most requests: no pattern to match
            for endpoint in same_path:
                if scope["method"] in (endpoint.methods or ()):
                    return endpoint, True
            return same_path[-1], False
        if len(scope["path"]) > MAX_PATH_CHARACTERS:  # matching each pattern would take long
            return None, False
        found = None
        for endpoint in self._with_parameters:
            match, path_params = endpoint.matches(scope)
            if match is Match.FULL:
                scope.update(path_params)
                return endpoint, True
            if match is Match.PARTIAL:
                found = endpoint
        return found, False

    def record(
        self,
        request: Request,
        endpoint: Route | None,
        status: int,
        code: str | None,
        seconds: float,
    ) -> None:
        """Count the outcome of a request, and write its log line, and tell a collector.

        `seconds` is the time until the answer was there. Taking it is up to the client.
        """
        route = endpoint.path if endpoint else NO_ROUTE
        metrics.get_request_counter(route, status).inc()
        metrics.get_request_histogram(route).observe(seconds)
        fields: dict[str, object] = {
            "request_id": request.id,
            "method": request.method,
            "route": route,
            "status": status,
        }
        if code:
            fields["code"] = code
        fields |= request.log_fields
        fields |= {f"{stage}_ms": _to_ms(spent) for stage, spent in request.timings.seconds.items()}
        fields["total_ms"] = _to_ms(seconds)
        log_request(fields)
        if self._recorder:
            known_route = endpoint.path if endpoint else None
            sent = None if status == CLIENT_CLOSED else status
            self._recorder.record_request(request, Outcome(known_route, sent, code, seconds))

    async def _answer(self, request: Request, endpoint: Route | None, is_allowed: bool) -> Response:
        request.check_protocol()
        if request.scope.get(PREFLIGHT):  # without a key, so the path must not matter
            return answer_preflight(request, self._methods)
        self.api_keys.check(request)
        if endpoint is None:
            path = excerpt(request.path)
            raise NotFound(f"There is nothing at '{path}': see /docs for the paths.")
        if not is_allowed:
            methods = ", ".join(self._find_methods(endpoint.path))
            raise MethodNotAllowed(
                f"{request.method} is not allowed for '{excerpt(request.path)}': use {methods}.",
                {"allow": methods},
            )
        if self._lifecycle.closed:
            raise NotReady("This server is shutting down: use another one.")
        try:
            async with asyncio.timeout_at(request.deadline):
                return await endpoint.handler(request)
        except TimeoutError:
            await self._admission.loop_time.take()  # many may have come, and end, together
            raise self._explain_timeout(request) from None

    def _check_room(self, request: Request, response: Response) -> None:
        """Check that a response for which no permit was needed finds room until it is taken.

        Raises:
            Overloaded: Other clients have not taken theirs yet.
        """
        size = len(response.body)
        if size > UNCOUNTED_BYTES and not request.is_admitted:
            self._admission.check_response(size)

    def _find_methods(self, path: str) -> list[str]:
        return [endpoint.method for endpoint in self._endpoints if endpoint.path == path]

    def _explain_timeout(self, request: Request) -> ApiError:
        milliseconds = round(request.timeout_seconds * 1000)
        if request.method == "POST" and not request.body_is_read:
            return RequestTimeout(
                f"The body did not arrive within {milliseconds} ms: send it faster."
            )
        metrics.DROPPED.labels("deadline").inc(request.images)
        return Timeout(f"The request took longer than {milliseconds} ms: try again.")


def reject(exc: Exception, request: Request) -> tuple[Response, str]:
    """Make the error response and return it with its code. Count it; log our own errors in full.

    No frame that the exception passed may hold it: such a cycle would keep the image in memory
    until the next garbage collection.
    """
    if not isinstance(exc, ApiError) or isinstance(exc, InternalError):
        log.error("request failed", exc_info=exc, extra=with_fields(request_id=request.id))
        exc = InternalError("The server failed: its log has the reason under the request id.")
    metrics.get_error_counter(exc.code).inc()
    return make_error_response(exc, request), exc.code


def finish_response(response: Response, request: Request) -> None:
    """Add the headers that every response has."""
    response.raw_headers += [
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request.id.encode()),
    ]
    if request.timings.seconds:
        timing = _format_server_timing(request)
        response.raw_headers.append((b"server-timing", timing.encode()))


def _format_server_timing(request: Request) -> str:
    timings = {**request.timings.seconds, "total": perf_counter() - request.started}
    return ", ".join(f"{stage};dur={_to_ms(seconds)}" for stage, seconds in timings.items())


def _to_ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
