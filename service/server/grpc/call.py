"""One call: a stream of an HTTP/2 connection as a request for the application, and its answer.

gRPC puts 5 bytes before a message: whether it is compressed, and its length. The application sees
a request with a body of that length, and reads it within its limits like any other. This module
knows neither the connection's other calls nor what messages say.
"""

import asyncio
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from service.api.grpc.endpoints import EQUIVALENTS
from service.errors import ApiError, BadRequest, RequestTimeout, excerpt
from service.http.request import DEADLINE, EQUIVALENT_PATH, FAULT, UNKNOWN_METHOD

PREFIX = struct.Struct(">BI")  # before a message: whether it is compressed, and its length
CONTENT_TYPE = b"application/grpc"
UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
TIMEOUT_VALUE = re.compile(rb"([0-9]{1,8})([HMSmun])")
# What the client says of the HTTP body is not what the application gets.
NOT_PASSED = {b"content-length", b"content-encoding", b"transfer-encoding", b"expect"}
# What the application says of an HTTP body, or of a connection in HTTP/1.1.
NOT_SENT = {b"content-length", b"content-type", b"connection", b"vary", b"x-content-type-options"}
CALL_BYTES = 16_384  # that a call takes, beyond its headers
GRPC_STATUS, OK = b"grpc-status", b"0"

Headers = list[tuple[bytes, bytes]]


class CallTransport(Protocol):
    """What a call needs of its connection."""

    def acknowledge(self, call: "Call", size: int) -> None:
        """Let the client send so many more bytes."""

    async def answer(self, call: "Call", head: Headers, message: bytes | None) -> None:
        """Send an answer, or its head alone."""

    async def drain(self) -> None:
        """Wait until little is left to send."""


class Call:
    """A call, from its headers to its answer."""

    def __init__(
        self,
        transport: CallTransport,
        stream_id: int,
        headers: Headers,
        timeout_seconds: float,
        fault: Callable[[], ApiError] | None,
    ) -> None:
        self.stream_id = stream_id
        self.is_answered = False
        self.is_gone = False  # reset by the client, or its connection was lost
        self.is_ended = False  # the client sends nothing more
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None  # until the call can start
        self.held_bytes = CALL_BYTES + sum(len(name) + len(value) for name, value in headers)
        self._transport = transport
        self._headers = headers
        self._fault = fault
        self._prefix = b""
        self._chunks: list[bytes] = []
        self._unacknowledged = 0  # bytes that the application has not taken
        self._missing = 0  # bytes of the message that have not come
        self._is_passed = False  # the application has got the whole message
        self._changed = asyncio.Event()
        self._start: Message = {}
        self._scope: Scope | None = None
        self._read_timeout(timeout_seconds)

    def _read_timeout(self, timeout_seconds: float) -> None:
        """Take the client's deadline if it is sooner than the server's."""
        sent = self.find_header(b"grpc-timeout")
        match = TIMEOUT_VALUE.fullmatch(sent)
        if match:
            count, unit = match.groups()
            timeout_seconds = min(timeout_seconds, int(count) * UNIT_SECONDS[unit.decode()])
        elif sent:
            shown = excerpt(sent.decode("latin-1"))
            self._fault = partial(BadRequest, f"The grpc-timeout '{shown}' is not valid.")
        self.timeout_seconds = timeout_seconds
        self.deadline = asyncio.get_running_loop().time() + timeout_seconds

    def find_header(self, name: bytes) -> bytes:
        """Return a header's value: empty if it is absent."""
        return next((value for own, value in self._headers if own == name), b"")

    def add(self, data: bytes, flow_bytes: int) -> None:
        """Add what has come of the message; `flow_bytes` is what it counts as."""
        if self.is_answered:
            self._transport.acknowledge(self, flow_bytes)
            return
        self._unacknowledged += flow_bytes
        lacking = PREFIX.size - len(self._prefix)
        if lacking:
            self._prefix += data[:lacking]
            data = data[lacking:]
            if len(self._prefix) == PREFIX.size:
                self._missing = PREFIX.unpack(self._prefix)[1]
        self._missing -= len(data)
        if self._missing < 0:
            self._set_fault("More than one message was sent: send one.")
            data = b""
        if data:
            self._chunks.append(data)
        self._changed.set()

    def end(self) -> None:
        """The client sends nothing more."""
        self.is_ended = True
        if len(self._prefix) < PREFIX.size or self._missing > 0:
            self._set_fault("The message is not complete: send all its bytes.")
        self._changed.set()

    def expire(self) -> None:
        """Give up waiting for the length of the message."""
        milliseconds = round(1000 * self.timeout_seconds)
        self._fault = partial(
            RequestTimeout, f"The message did not arrive within {milliseconds} ms: send it faster."
        )

    def return_window(self) -> None:
        """Let the client send as much as it has sent and nobody took, on this connection."""
        size, self._unacknowledged = self._unacknowledged, 0
        self._transport.acknowledge(self, size)

    def lose(self) -> None:
        """The client does not wait for the answer any more."""
        self.is_gone = True
        self.return_window()
        self._chunks.clear()
        self._changed.set()

    def is_ready(self) -> bool:
        """Return whether enough has come to start: the length of the message, or a mistake."""
        return len(self._prefix) == PREFIX.size or self.is_ended or self._fault is not None

    def waits_for_client(self) -> bool:
        """Return whether the client has to send more, or to take its answer."""
        return not self.is_gone and (self.is_answered or not self.is_ended)

    async def run(self, application: ASGIApp) -> None:
        """Have the application answer."""
        await application(self._make_scope(), self._receive, self._send)

    def _set_fault(self, sentence: str) -> None:
        self._fault = self._fault or partial(BadRequest, sentence)
        if self._scope is not None:
            self._scope[FAULT] = self._fault

    def _make_scope(self) -> Scope:
        flag, length = PREFIX.unpack(self._prefix) if len(self._prefix) == PREFIX.size else (0, 0)
        headers = [
            field
            for field in self._headers
            if not field[0].startswith(b":") and field[0] not in NOT_PASSED
        ]
        headers.append((b"content-length", str(length).encode()))
        if flag:
            headers.append((b"content-encoding", self.find_header(b"grpc-encoding") or b"none"))
        path = self.find_header(b":path").decode("latin-1")
        self._scope = {
            "type": "http",
            "http_version": "2",
            "method": "POST" if self.find_header(b":method") == b"POST" else UNKNOWN_METHOD,
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": headers,
            EQUIVALENT_PATH: EQUIVALENTS.get(path, path),
            DEADLINE: (self.timeout_seconds, self.deadline),
        }
        if self._fault:
            self._scope[FAULT] = self._fault
        return self._scope

    async def _receive(self) -> Message:
        while not (self.is_gone or self.is_answered):
            if not self._is_passed and (self._chunks or self.is_ended):
                chunks, self._chunks = self._chunks, []
                self.return_window()
                self._is_passed = self.is_ended
                body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                return {"type": "http.request", "body": body, "more_body": not self.is_ended}
            self._changed.clear()
            await self._changed.wait()
        if self.is_gone:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif not self.is_answered:
            self.is_answered = True
            self.return_window()
            await self._send_answer(message["body"])
        elif not message.get("more_body"):
            await self._transport.drain()

    async def _send_answer(self, message: bytes) -> None:
        headers: Headers = list(self._start["headers"])
        head = [(b":status", b"200"), (b"content-type", CONTENT_TYPE)]
        head += [field for field in headers if field[0] not in NOT_SENT]
        failed = any(name == GRPC_STATUS for name, _ in headers)
        await self._transport.answer(self, head, None if failed else message)
