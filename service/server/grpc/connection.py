"""An HTTP/2 connection of gRPC, with limits for what a client could send or leave without end.

h2 knows the protocol, and the application what a call asks for. Bytes of a message that the
application has not taken are not acknowledged, so the client can't send more than a window of them.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from starlette.types import ASGIApp

from service.api.grpc.endpoints import SERVER_LIVE, SERVER_READY
from service.errors import ApiError, BadRequest, Overloaded
from service.server.connections import HIGH_WATER_BYTES, Connections
from service.server.grpc.answers import AnswerWriter
from service.server.grpc.call import CONTENT_TYPE, Call, Headers
from service.server.grpc.calls import Calls
from service.server.grpc.frames import Frames, Violation
from service.server.grpc.graceful_shutdown import GracefulShutdown
from service.server.grpc.state import make_h2
from service.server.head import FIELD_LIMIT, MAX_FIELDS
from service.server.reading import Reading
from service.server.turns import Turns
from service.server.unparsed import Piece, Unparsed
from service.telemetry import metrics
from service.telemetry.log import with_fields

MAX_CONNECTIONS = 4096  # an idle one takes 21 kB, twice what one of HTTP takes
PROBES = (SERVER_LIVE.encode(), SERVER_READY.encode())
log = logging.getLogger(__name__)


class Surroundings(NamedTuple):
    """What all connections of a worker share."""

    application: ASGIApp
    timeout_seconds: float
    is_draining: Callable[[], bool]
    is_short_of_room: Callable[[], bool]
    all_connections: Connections  # with those of HTTP
    grpc_connections: "dict[GrpcConnection, None]"  # a dictionary keeps the order
    reading: Reading
    turns: Turns


class GrpcConnection(asyncio.Protocol):
    """One connection and its calls."""

    transport: asyncio.Transport
    held_bytes = 0
    has_received = False

    def __init__(self, surroundings: Surroundings) -> None:
        self.is_lost = asyncio.Event()
        self._around = surroundings
        self._calls = Calls(
            self,
            surroundings.application,
            surroundings.timeout_seconds,
            surroundings.turns,
            self._end_call,
        )
        self._all = surroundings.all_connections
        self._frames = Frames()
        self._unparsed = Unparsed(surroundings.turns)
        self._h2 = make_h2()
        self._is_broken = False  # what still comes is not parsed
        self._is_reserved = False  # for probes
        self._idle_since = 0.0
        self._shutdown = GracefulShutdown(self._h2, self._flush, self._write, self._close_if_done)
        self._answers = AnswerWriter(
            self._h2,
            self._flush,
            self._count_held,
            surroundings.turns,
            surroundings.timeout_seconds,
            surroundings.is_short_of_room,
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._loop = asyncio.get_running_loop()
        self._idle_since = self._loop.time()
        if len(self._around.grpc_connections) >= MAX_CONNECTIONS:
            self._make_room()
        self._is_reserved = self._all.add(self)
        self._around.grpc_connections[self] = None
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._all.remove(self)
        self._around.grpc_connections.pop(self, None)
        self._around.reading.forget(self)
        self.discard()
        self._calls.lose_all()
        self._answers.resume()
        self.is_lost.set()

    def pause_writing(self) -> None:
        self._answers.pause()

    def resume_writing(self) -> None:
        self._answers.resume()

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return
        self.has_received = True
        self._around.reading.note()
        try:
            pieces = self._frames.cut(data)
        except Violation as exc:
            self._break(exc)
            return
        is_short = len(pieces) == 1 and not self._frames.has_long_heads
        if is_short and not self._unparsed and self._around.turns.may_skip():
            self.parse(pieces[0])
        else:
            self._unparsed.add(pieces, self)
        self._count_held()

    def parse(self, piece: Piece) -> None:
        """Parse whole frames."""
        try:
            for event in self._h2.receive_data(bytes(piece)):
                self._handle(event)
        except H2Error as exc:
            self._break(exc)
        self._flush()
        self._count_held()

    def count_unparsed(self, size: int) -> None:
        """Count frames that wait for their turn."""
        self._around.reading.wait(size)

    def waits_since(self) -> float | None:
        """Return since when the next thing has to come from the client; None if from us."""
        if self._unparsed:
            return None
        if not self._calls:
            return self._idle_since
        return self._loop.time() if self._calls.wait_for_client() else None

    def is_unfinished(self) -> bool:
        """Return whether it holds frames without their end, or calls that wait for the client."""
        return self._count_unfinished() > 0

    def wants_reading(self) -> bool:
        """Return whether all that came was parsed."""
        return not self._unparsed

    def discard(self) -> None:
        """Forget what was received. The connection is being aborted."""
        self._is_broken = True
        self._frames.discard()
        self._around.reading.wait(-self._unparsed.drop())

    def acknowledge(self, call: Call, size: int) -> None:
        """Let the client send so many more bytes."""
        if size and not self._is_broken:
            self._h2.acknowledge_received_data(size, call.stream_id)
            self._flush()

    async def answer(self, call: Call, head: Headers, message: bytes | None) -> None:
        """Send an answer, or its head alone."""
        if self._around.is_draining():
            self.retire()
        if call.is_gone or self._is_broken:
            return
        await self._answers.send(call, head, message)
        self._frames.add_credit(len(message or b""))
        self._flush()

    def sweep(self, now: float) -> bool:
        """End the connection if its client takes an answer too slowly. Return whether it did."""
        if self._is_broken or not self._answers.has_slow_client(now):
            return False
        self._all.abort(self, "unread")
        return True

    async def drain(self) -> None:
        """Wait until little is left to send."""
        await self._answers.drain()

    def retire(self) -> None:
        """Ask the client for a new connection, and close this one after the last answer."""
        if not self._is_broken:
            self._shutdown.begin()

    def abort(self) -> None:
        """End the connection at once."""
        self.discard()
        self.transport.abort()

    def _make_room(self) -> None:
        """Close a connection that has no call, an old one if possible; else this new one."""
        idle = (c for c in self._around.grpc_connections if c.waits_since() is not None)
        metrics.CLOSED.labels("full").inc()
        next(idle, self)._close()

    def _handle(self, event: Event) -> None:
        call = self._calls.get(getattr(event, "stream_id", None))
        if isinstance(event, RequestReceived):
            self._open(event)
        elif isinstance(event, DataReceived):
            if call:
                call.add(event.data, event.flow_controlled_length)
            elif event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded) and call:
            call.end()
        elif isinstance(event, StreamReset) and call:
            self._calls.lose(call)
            self._answers.wake()
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self._answers.wake()
        elif isinstance(event, PingAckReceived):
            self._shutdown.end()
        elif isinstance(event, ConnectionTerminated):
            self._close()
        if call := self._calls.get(getattr(event, "stream_id", None)):
            self._calls.start_if_ready(call)

    def _open(self, event: RequestReceived) -> None:
        stream = event.stream_id
        headers: Headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
        assert stream
        if self._is_broken:
            return
        if not self._shutdown.takes_calls:
            self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif dict(headers).get(b"content-type", b"").startswith(CONTENT_TYPE):
            self._calls.open(stream, headers, self._find_fault(headers))
        else:
            self._h2.send_headers(stream, [(b":status", b"415")], end_stream=True)
            if not event.stream_ended:
                self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)

    def _find_fault(self, headers: Headers) -> Callable[[], ApiError] | None:
        if len(headers) > MAX_FIELDS:
            return partial(BadRequest, FIELD_LIMIT)
        if self._is_reserved and dict(headers).get(b":path") not in PROBES:
            return partial(Overloaded, "All connections of this server are busy: try again.", 1)
        return None

    def _end_call(self, call: Call) -> None:
        """See to what a call leaves behind."""
        if not (call.is_answered or call.is_gone or self._is_broken):
            self._h2.reset_stream(call.stream_id, ErrorCodes.INTERNAL_ERROR)
            self._flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        """Note since when there is no call; close the connection if it shall have no more."""
        if not self._calls:
            self._idle_since = self._loop.time()
            if not self._shutdown.takes_calls:
                self.transport.close()

    def _break(self, reason: Exception) -> None:
        """Close the connection, because what came is no HTTP/2 or too much."""
        metrics.CLOSED.labels("protocol").inc()
        log.debug("connection closed", extra=with_fields(reason=str(reason)))
        self._flush()
        self._close()

    def _close(self) -> None:
        """Close the connection; nobody waits for its calls."""
        self.discard()
        self._calls.lose_all()
        self._answers.wake()
        self._all.free(self)
        self.transport.close()

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._is_broken:
            self.transport.write(data)

    def _count_unfinished(self) -> int:
        return self._frames.held_bytes + self._calls.count_bytes()

    def _count_held(self) -> None:
        held = self._count_unfinished()
        if held > self.held_bytes:  # it keeps its place among those that hold something
            self._all.hold(self, held - self.held_bytes)
        elif not held:
            self._all.free(self)
