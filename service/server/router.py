"""The front door: which call a request is for, who may come in, and what is said of it afterwards.

The one place where a refusal becomes a response. Knows no image and no model.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatch
from hmac import compare_digest
from time import perf_counter
from typing import Any, NamedTuple

from service.api.endpoints import answer_json
from service.errors import (
    ApiError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    NotReady,
    RequestTimeout,
    Timeout,
    Unauthorized,
)
from service.http.request import ClientDisconnected, Receive, Request, Response, Scope, Send
from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.server.cors import Cors
from service.server.tracing import RequestTracer
from service.settings import Settings
from service.telemetry import metrics
from service.telemetry.log import log_request, with_fields

log = logging.getLogger(__name__)
Handler = Callable[..., Awaitable[Response]]
NO_ROUTE = "none"
PASSING_BYTES = 262_144  # of a refused body: reading more would cost more than a new connection
PROTOCOL_PATH = re.compile("/v2(/|$)")  # its clients read an error that is one sentence
CLIENT_CLOSED = 499  # nginx's word for it; never sent, only counted and logged


class Route(NamedTuple):
    """A path, which may hold several `{name}`s, with a handler for each method."""

    template: str
    methods: Mapping[str, Handler]
    needs_room: bool = False  # for the images that its requests bring


class Door:
    """An ASGI application for HTTP requests alone."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        admission: Admission,
        routes: list[Route],
        tracer: RequestTracer | None = None,
    ) -> None:
        self._timeout_seconds = settings.request_timeout_ms / 1000
        self._keys = [f"Bearer {key}".encode() for key in settings.api_keys]
        self._public_paths = settings.public_paths
        self._cors = Cors(settings.cors_origins)
        self._lifecycle = lifecycle
        self._admission = admission
        self._passing_bytes = min(
            PASSING_BYTES, settings.max_upload_bytes, admission.max_body_bytes
        )
        self._tracer = tracer
        self._exact = {route.template: route for route in routes if "{" not in route.template}
        self._patterns = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.template)), route)
            for route in routes
            if "{" in route.template
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, self._timeout_seconds)
        route, names = self._find_route(request.path)
        code = None
        try:
            response = await self._answer(request, route, names)
        except ClientDisconnected:
            metrics.DROPPED.labels("client_gone").inc(request.images)
            self._report(request, route, CLIENT_CLOSED, "client_gone")
            return
        except Exception as fault:
            response, code = self._refuse(fault, request)
        if request.timings.seconds:
            response.headers["server-timing"] = _format_server_timing(request)
        if self._lifecycle.draining:
            response.headers["connection"] = "close"
        self._cors.mark(request, response)
        await response.send(send, request, head_only=request.method == "HEAD")
        self._report(request, route, response.status, code)

    def turn_away(self, scope: Scope) -> bytes | None:
        """The whole answer to a request that there is no room for; None if there may be.

        In an overload most of the work is refusing: this needs neither a task nor the body, which
        the caller lets pass. What is large, or wrong in another way, is refused in the usual way.
        """
        refusal = self._admission.find_overload(self._timeout_seconds)
        if refusal is None or self._lifecycle.draining:
            return None
        request = Request(scope, receive_nothing, self._timeout_seconds)
        route, _ = self._find_route(request.path)
        if not route or not route.needs_room or request.method not in route.methods:
            return None
        passes = 0 < (request.content_length or 0) <= self._passing_bytes
        if not passes or not self._knows(request):
            return None
        response, code = self._refuse(refusal, request)
        self._cors.mark(request, response)
        self._report(request, route, response.status, code)
        return response.encode(request)

    def _find_route(self, path: str) -> tuple[Route | None, dict[str, str]]:
        if path in self._exact:
            return self._exact[path], {}
        for pattern, route in self._patterns:
            if match := pattern.fullmatch(path):
                return route, match.groupdict()
        return None, {}

    async def _answer(
        self, request: Request, route: Route | None, names: dict[str, str]
    ) -> Response:
        if route and self._cors.is_preflight(request):  # browsers send no key with it
            return self._cors.answer_preflight(request, route.methods)
        if not self._knows(request):
            raise Unauthorized
        if route is None:
            raise NotFound(f"There is nothing at '{request.path}': see /docs for what there is.")
        handler = route.methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(route.methods)
            raise MethodNotAllowed(
                f"{request.method} is not for '{request.path}': use {allowed}.", {"allow": allowed}
            )
        if self._lifecycle.closed:
            raise NotReady("This server is stopping: ask another one.")
        try:
            async with asyncio.timeout_at(request.deadline):
                return await handler(request, **names)
        except TimeoutError:
            milliseconds = round(self._timeout_seconds * 1000)
            if request.method == "POST" and not request.body_is_read:
                raise RequestTimeout(
                    f"The body did not arrive within {milliseconds} ms: send it faster."
                ) from None
            metrics.DROPPED.labels("deadline").inc(request.images)
            raise Timeout(f"No answer was found within {milliseconds} ms: try again.") from None

    def _knows(self, request: Request) -> bool:
        """Whether it has a key, or needs none."""
        if not self._keys or any(fnmatch(request.path, path) for path in self._public_paths):
            return True
        given = request.headers.get(b"authorization", b"")
        matches = [compare_digest(given, key) for key in self._keys]  # all, in constant time
        return any(matches)

    def _refuse(self, fault: Exception, request: Request) -> tuple[Response, str]:
        """What the client is told, and its code, counted; our own faults go to the log, whole.

        The fault is held by none of the frames it came through: as a cycle it would keep the
        picture it was about until the next garbage collection.
        """
        if not isinstance(fault, ApiError) or isinstance(fault, InternalError):
            log.error("request failed", exc_info=fault, extra=with_fields(request_id=request.id))
            fault = InternalError(
                "Something went wrong here; the log has the reason by the request id."
            )
        is_protocol = PROTOCOL_PATH.match(request.path)
        error = fault.message if is_protocol else fault.body(request.id)
        response = answer_json({"error": error}, fault.status)
        response.headers.update(fault.headers)
        metrics.count_refusal(fault.code).inc()
        return response, fault.code

    def _report(self, request: Request, route: Route | None, status: int, code: str | None) -> None:
        seconds = perf_counter() - request.started
        template = route.template if route else NO_ROUTE
        metrics.count_request(template, status).inc()
        metrics.time_request(template).observe(seconds)
        fields: dict[str, object] = {
            "request_id": request.id,
            "method": request.method,
            "route": template,
            "status": status,
        }
        if code:
            fields["code"] = code
        fields |= request.log_fields
        fields |= {f"{stage}_ms": _to_ms(spent) for stage, spent in request.timings.seconds.items()}
        fields["total_ms"] = _to_ms(seconds)
        log_request(fields)
        if self._tracer:
            self._tracer.record_request(
                request, route.template if route else None, status, code, seconds
            )


async def receive_nothing() -> dict[str, Any]:
    """The body of a request that is answered without it."""
    return {"type": "http.disconnect"}


def _format_server_timing(request: Request) -> str:
    timings = {**request.timings.seconds, "total": perf_counter() - request.started}
    return ", ".join(f"{stage};dur={_to_ms(seconds)}" for stage, seconds in timings.items())


def _to_ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
