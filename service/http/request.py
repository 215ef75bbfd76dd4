"""One HTTP exchange over ASGI: what a request says, how its body is read, what is sent back.

Knows bytes, headers and time; nothing of images or models.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from itertools import count
from secrets import token_hex
from time import perf_counter, time
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from service.errors import BadRequest, PayloadTooLarge
from service.telemetry.timings import Timings

T = TypeVar("T")
Scope = Mapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
DISCARD_SECONDS = 2.0  # how long what a refused client still sends is read and thrown away
ONE_READ_BYTES = 65_536  # a body up to this has mostly come together with its headers
WATCH_AFTER_SECONDS = 0.02  # a request answered sooner is not worth watching its client

_process = token_hex(6)
_numbers = count(1)


class ClientDisconnected(Exception):
    """The client closed the connection before its answer."""


class Request:
    """What came before the body, and the way to the body."""

    def __init__(self, scope: Scope, receive: Receive, timeout_seconds: float) -> None:
        self.started = perf_counter()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._header_lines: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.headers: dict[bytes, bytes] = dict(self._header_lines)
        self.deadline = asyncio.get_running_loop().time() + timeout_seconds
        self.timings = Timings()
        self.log_fields: dict[str, Any] = {}  # for the log line and the trace
        self.images = 1  # that it carries, as far as is known
        self.body_is_read = False
        self._query: bytes = scope["query_string"]
        self._receive = receive
        asked_id = self.headers.get(b"x-request-id", b"")
        self.id = (
            asked_id.decode() if SANE_ID.fullmatch(asked_id) else f"{_process}-{next(_numbers):x}"
        )

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the URL, in order.

        Raises:
            BadRequest: bytes that are no UTF-8.
        """
        if not self._query:
            return []
        try:
            return parse_qsl(self._query.decode(), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise BadRequest("The query is no percent-encoded UTF-8.") from None

    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()

    def header(self, name: bytes) -> str:
        """A header's value; lines of the same name are one list, empty where none was sent."""
        values = (value for own, value in self._header_lines if own == name)
        return b", ".join(values).decode("latin-1")

    @property
    def content_length(self) -> int | None:
        """The bytes announced; None where the body comes in chunks."""
        announced = self.headers.get(b"content-length")
        if announced is None:
            return None if b"transfer-encoding" in self.headers else 0
        return int(announced)  # the server below refuses what is no number

    async def read_body(self, limit: int, grow: Callable[[int], None]) -> bytes:
        """The whole body. `grow` is told of bytes that were not announced, before they are kept.

        Raises:
            PayloadTooLarge: more than `limit` bytes.
            ClientGone: the connection broke off.
        """
        chunks: list[bytes] = []
        length, announced = 0, self.content_length or 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk: bytes = message.get("body", b"")
            length += len(chunk)
            if length > limit:
                raise PayloadTooLarge(describe_byte_limit(limit))
            if length > announced:
                grow(length - announced)
                announced = length
            chunks.append(chunk)
            if not message.get("more_body"):
                self.body_is_read = True
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def discard_received_body(self) -> None:
        """Throw a short body away that has come already; the connection can then be kept."""
        length = self.content_length or 0
        if self.body_is_read or not 0 < length <= ONE_READ_BYTES or b"expect" in self.headers:
            return
        while (message := run_without_waiting(self._receive())) is not None:
            if not message.get("more_body"):
                self.body_is_read = True
                return

    async def discard_body(self) -> None:
        """Throw away what still comes, for a while, so that the refusal gets through."""
        if self.body_is_read or b"expect" in self.headers:
            return
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await self._receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass

    async def wait_for_disconnect(self) -> None:
        """Return when the client has left; only once the body is read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Response:
    """What is sent back."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(
        self,
        body: bytes,
        media_type: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.body = body
        self.media_type = media_type
        self.status = status
        self.headers = dict(headers or {})

    async def send(self, send: Send, request: Request, head_only: bool) -> None:
        """Send it; where the body of the request is still coming, read that first, then close."""
        request.discard_received_body()
        closing = not request.body_is_read and request.content_length != 0
        headers = self._make_headers(request)
        if closing:
            headers["connection"] = "close"
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        body = b"" if head_only else self.body
        if closing:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await request.discard_body()
            body = b""
        await send({"type": "http.response.body", "body": body})

    def encode(self, request: Request) -> bytes:
        """All of it in HTTP/1.1, for a connection that is kept."""
        told = {"date": _format_date(int(time())), **self._make_headers(request)}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in told.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    def _make_headers(self, request: Request) -> dict[str, str]:
        return {
            "content-type": self.media_type,
            "content-length": str(len(self.body)),
            "x-content-type-options": "nosniff",
            "x-request-id": request.id,
            **self.headers,
        }


@lru_cache(1)
def _format_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def run_without_waiting(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """What a coroutine returns if it need not wait; None if it would, and it is given up then."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        returned: T = end.value
        return returned
    coroutine.close()
    return None


class DisconnectWatch:
    """Cancels the task of a request whose client has left; entered once the body is read.

    Most requests are answered before it is worth asking, hence the timer.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._watch: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> "DisconnectWatch":
        loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._start)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watch:
            self._watch.cancel()
        if self._gone and kind is asyncio.CancelledError:
            assert self._owner
            self._owner.uncancel()
            raise ClientDisconnected

    def _start(self) -> None:
        self._watch = asyncio.ensure_future(self._request.wait_for_disconnect())
        self._watch.add_done_callback(self._cancel)

    def _cancel(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and watch.exception() is None:
            self._gone = True
            assert self._owner
            self._owner.cancel()


def describe_byte_limit(limit: int) -> str:
    """The sentence for more bytes than allowed."""
    return f"More than {limit} bytes were sent, the most that is accepted here: send less."
