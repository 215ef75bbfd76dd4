"""An HTTP request: Starlette's, with an id, a deadline, and a body that is read within a budget.

This module knows bytes, headers and time. It knows nothing of images or models.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.errors import BadRequest, PayloadTooLarge
from service.http.body import Body, BodyBuffer
from service.telemetry.timings import Timings

T = TypeVar("T")

UNKNOWN_METHOD = "_OTHER"  # OpenTelemetry's name for every method that is none of HTTP's
# In the scope of a request:
FAULT = "sightglass.fault"  # makes the error for what the protocol found wrong
EQUIVALENT_PATH = "sightglass.path"  # of a call over gRPC: the path over HTTP that is as public
DEADLINE = "sightglass.deadline"  # the client's, if it is sooner: its seconds, and when it is
SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
DISCARD_SECONDS = 2.0  # for reading the rest of a rejected body
MAX_PARAMETERS = 64  # in the query
ONE_READ_BYTES = 65_536  # a body up to this size usually arrives together with its headers
WATCH_AFTER_SECONDS = 0.02  # a faster answer is not worth watching the client for

_process = token_hex(6)
_numbers = count(1)


class Request(starlette.requests.Request):
    """A request, and the facts that its log line, metrics and trace are made of."""

    def __init__(self, scope: Scope, receive: Receive, timeout_seconds: float) -> None:
        super().__init__(scope, receive)
        self.started = perf_counter()
        deadline = scope.get(DEADLINE)
        self.timeout_seconds: float = deadline[0] if deadline else timeout_seconds
        self.deadline: float = (
            deadline[1] if deadline else asyncio.get_running_loop().time() + timeout_seconds
        )
        self.path: str = scope["path"]
        self.timings = Timings()
        self.log_fields: dict[str, Any] = {}  # for the log line and the trace
        self.images = 1  # in this request, as far as is known
        self.body_is_read = False
        self.is_admitted = False  # its answer counts with its permit
        client_id = self.header("x-request-id")
        is_safe = SAFE_ID.fullmatch(client_id)
        self.id = client_id if is_safe else f"{_process}-{next(_numbers):x}"
        self.content_length = self._read_content_length()

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the URL, in order.

        Raises:
            BadRequest: The query is not UTF-8 (Starlette would replace the wrong bytes), or it has
                too many parameters.
        """
        encoded: bytes = self.scope["query_string"]
        if not encoded:
            return []
        if encoded.count(b"&") >= MAX_PARAMETERS:
            raise BadRequest(f"The query has more than {MAX_PARAMETERS} parameters: send fewer.")
        try:
            return parse_qsl(encoded.decode(), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise BadRequest("The query must be percent-encoded UTF-8.") from None

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()

    def header(self, name: str) -> str:
        """Return a header's value: empty if it is absent, a list if it was sent several times."""
        key = name.encode()  # Starlette's `headers` would do the same in twice the time
        values = [value for own, value in self.scope["headers"] if own == key]
        return b", ".join(values).decode("latin-1")

    async def read_body(self, limit: int, reserve: Callable[[int], None]) -> Body:
        """Read the whole body. Call `reserve` with the number of bytes that have arrived.

        Raises:
            PayloadTooLarge: The body has more than `limit` bytes.
            BadRequest: The body's chunks are malformed.
            ClientDisconnect: The connection was lost.
        """
        length = 0
        buffer: BodyBuffer | None = None  # most bodies have one chunk
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            length += len(chunk)
            if length > limit:
                raise PayloadTooLarge(describe_byte_limit(limit))
            reserve(len(chunk))
            self.body_is_read = not message.get("more_body")
            if self.body_is_read and buffer is None:
                self.check_protocol()
                return chunk
            buffer = buffer or BodyBuffer(self.content_length or limit)
            buffer.add(chunk)
            if self.body_is_read:
                self.check_protocol()
                return await buffer.finish()

    def check_protocol(self) -> None:
        """Check that the protocol found nothing wrong so far.

        Raises:
            ApiError: It did.
        """
        if FAULT in self.scope:
            raise self.scope[FAULT]()

    def discard_received_body(self) -> None:
        """Discard a short body that has arrived already. The connection can then be kept."""
        length = self.content_length or 0
        if self.body_is_read or not 0 < length <= ONE_READ_BYTES or "expect" in self.headers:
            return
        while (message := run_without_waiting(self.receive())) is not None:
            if not message.get("more_body"):
                self.body_is_read = True
                return

    async def discard_body(self) -> None:
        """Discard what the client still sends, for a while: so it can read the response."""
        if self.body_is_read or "expect" in self.headers:
            return
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await self.receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass

    async def wait_for_disconnect(self) -> None:
        """Return when the client has closed the connection. Call it after the body is read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _read_content_length(self) -> int | None:
        """Return the number of bytes announced; None if the body comes in chunks."""
        if announced := self.header("content-length"):
            return int(announced)  # the protocol rejects what is no number, and long ones
        return None if self.header("transfer-encoding") else 0


class DisconnectWatch:
    """Cancels a request's task if its client disconnects. Enter it after the body is read.

    Most requests are answered before the timer starts the watch, so they need no second task.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._watch: asyncio.Task[None] | None = None
        self._is_gone = False

    def __enter__(self) -> None:
        self._owner = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watch:
            self._watch.cancel()
        if self._is_gone and kind is asyncio.CancelledError:
            assert self._owner
            self._owner.uncancel()
            raise ClientDisconnect

    def _start(self) -> None:
        self._watch = asyncio.ensure_future(self._request.wait_for_disconnect())
        self._watch.add_done_callback(self._cancel)

    def _cancel(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and watch.exception() is None:
            self._is_gone = True
            assert self._owner
            self._owner.cancel()


def run_without_waiting(awaitable: Awaitable[T]) -> T | None:
    """Return the result if it is there at once. Otherwise give up and return None."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    steps.close()
    return None


def describe_byte_limit(limit: int) -> str:
    """Return the error sentence for a body that is too long."""
    return f"The request body is longer than {limit} bytes, the maximum here: send less."
