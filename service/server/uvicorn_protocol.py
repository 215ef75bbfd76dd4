"""uvicorn's HTTP protocol, with limits for what it would take without end.

Of headers, the framing of chunks, trailers, queued requests and unread answers, a client could send
or leave any number before a request reaches the application. What is wrong with a request is put
into its scope, so that the application answers it like any other, and in its turn. The protocol
does not know what a request asks for.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial

import httptools
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import ApiError, BadRequest, Overloaded, excerpt
from service.http.request import FAULT, UNKNOWN_METHOD
from service.server.connections import HIGH_WATER_BYTES, Connections
from service.server.head import (
    HEAD_LIMIT,
    MAX_HEAD_BYTES,
    Head,
    Refused,
    complete_target,
    write_without_upgrade,
)
from service.server.turns import Turns
from service.server.unparsed import Piece, Unparsed
from service.settings import Settings

FRAMING_LIMIT = (
    f"More than {MAX_HEAD_BYTES} bytes of chunk sizes, chunk extensions or trailers were sent: "
    "send fewer, or larger chunks."
)
CHUNK_BYTES = 64  # that a chunk counts as, besides its size: a line of text is large enough
SLICE_BYTES = 32_768  # of what was received, parsed before the limits are looked at
SHORT_BYTES = 4096  # parsed at once, without waiting for a turn, if it has few blank lines
BLANK_LINE, FEW_BLANK_LINES = b"\r\n\r\n", 2  # one ends a head, and one the head of a form's part
CONTENT_LENGTH = b"\r\ncontent-length:"
MAX_QUEUED = 32  # requests on one connection that wait for an earlier one
QUEUED_BYTES = 4096  # that such a request takes, beyond what was sent
PROBES = (b"/livez", b"/readyz", b"/v2/health/")
PROBE_HEADS = tuple(b"GET " + path for path in PROBES)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. It ignores every offer to upgrade the connection."""

    all_connections: Connections
    turns: Turns
    head_seconds = 10.0
    held_bytes = 0
    has_received = False

    _head: Head
    _head_timer: asyncio.TimerHandle | None = None
    _brings_body = False  # what waits for this connection's turn
    _is_broken = False  # what still comes is not parsed
    _is_reserved = False  # for probes
    _unanswered: Collection[RequestResponseCycle] = ()  # when several were sent at once
    _read_bytes = 0  # of the data just received, that may belong to the open message
    _body_bytes = 0  # of these, in its body
    _overhead = 0  # bytes of the open message outside of its body, less those in it
    _bodiless = 0  # bytes since the last one of the body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.turns.note_arrival()
        self._head = Head()
        self._pieces: list[bytes] = []  # of a body, in the data just received
        self._unparsed = Unparsed(self.turns)
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._is_reserved = self.all_connections.add(self)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.all_connections.remove(self)
        self._drop_unparsed()
        for cycle in self._find_unanswered():  # an answer must not be written any more
            cycle.disconnected = True
        # Each application that still answers has work to do now.
        if self.cycle and not self.cycle.response_complete and not self.turns.may_skip():
            self.turns.add(partial(self._forget_client, exc))
        else:
            self._forget_client(exc)

    def _forget_client(self, exc: Exception | None) -> None:
        for cycle in self._find_unanswered():  # uvicorn would tell only the last one
            cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        while self.pipeline:  # these never run: without this they would refer to one another
            self.pipeline.pop()[0].on_response = lambda: None

    def _find_unanswered(self) -> Collection[RequestResponseCycle]:
        return self._unanswered or ((self.cycle,) if self.cycle else ())

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return
        self.has_received = True
        self.all_connections.reading.note()
        view, begin = memoryview(data), 0
        is_head = not (self._unparsed or self._awaits_body())
        if is_head and self.turns.may_skip(is_probe(data)):
            is_short = len(data) <= SHORT_BYTES and data.count(BLANK_LINE) <= FEW_BLANK_LINES
            begin = len(data) if is_short else find_body(data)
        if begin:  # a short request, or a short head, which the picture often follows at once
            self.parse(view[:begin])
        for start in range(begin, len(data), SLICE_BYTES):
            part = view[start : start + SLICE_BYTES]
            if self._awaits_body() and not self._unparsed:  # its reader limits how much comes
                self.parse(part)
            else:
                self._wait_for_turn(part)

    def parse(self, piece: Piece) -> None:
        """Parse what was received, unless the connection ends."""
        if self._is_broken or self.transport.is_closing():
            return
        self._read_bytes, self._body_bytes = len(piece), 0
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as exc:
            self._ignore_upgrade(memoryview(piece)[exc.args[0] :])
        except httptools.HttpParserError as exc:
            self._explain_error(exc)
        if self._pieces:
            self._pass_body()
        if self._head.is_open or self.cycle.more_body or self.pipeline:
            self._count_unfinished(len(piece))

    def count_unparsed(self, size: int) -> None:
        """Count what waits for its turn: as held, unless it is a short head with its body.

        Reading stops while there is too much of that. It is a picture most of the time.
        """
        if self._brings_body:
            self.all_connections.reading.wait(size)
        else:
            self.all_connections.hold(self, size)

    def discard(self) -> None:
        """Forget what was received but not answered. The connection is being aborted."""
        self._is_broken = True
        self._drop_unparsed()
        self.parser = None  # type: ignore[assignment]  # it holds the headers so far

    def _awaits_body(self) -> bool:
        return bool(self.cycle) and self.cycle.more_body and not self._head.is_open

    def _wait_for_turn(self, part: memoryview) -> None:
        if self._is_broken:
            return
        if not self._unparsed:
            self._brings_body = find_body(bytes(part[:SHORT_BYTES])) > 0
        self._unparsed.add((part,), self)

    def _drop_unparsed(self) -> None:
        dropped = self._unparsed.drop()
        if self._brings_body:  # else it is freed with what else the connection holds
            self.all_connections.reading.wait(-dropped)

    def on_message_begin(self) -> None:
        if len(self.pipeline) == MAX_QUEUED:
            raise Refused(
                f"More than {MAX_QUEUED} requests were sent before the answer to an earlier one: "
                "wait for answers."
            )
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._head = Head()
        self._overhead = self._bodiless = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head.is_open:  # a trailer, which has no effect
            self._head.count_field()
            return
        name = name.lower()
        self._head.add_field(name, value)
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # the head is parsed again, without the offer
            return
        earlier = self.cycle
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # such a client would take it for the answer
        try:
            if not self.url.startswith(b"/"):
                self.url = complete_target(self.url)
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            url = excerpt(self.url.decode("latin-1"))
            raise Refused(f"The URL '{url}' is not valid: percent-encode it.") from None
        self._head.is_open = False  # from here on, an error belongs to this request
        self._stop_timer()
        fault = None
        version = self.scope["http_version"]
        if self._head.hosts != 1 or self._overhead or self._is_reserved or version != "1.1":
            fault = self._find_fault()
        if fault:
            self.scope[FAULT] = fault  # type: ignore[literal-required]
        if fault or self._is_reserved:
            self.cycle.keep_alive = False
        if self.pipeline:
            cycles = [*self._unanswered, earlier, self.cycle]
            self._unanswered = {cycle for cycle in cycles if not cycle.response_complete}
        elif self._unanswered:
            self._unanswered = ()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._head.is_open:  # it is parsed again
            return
        if self._pieces:
            self._pass_body()
        self._read_bytes = self._body_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._head.is_open:  # else another one needs them
            self.headers, self.url = [], b""
            self.scope = self.cycle.scope = {}  # type: ignore[typeddict-item]
            self._unanswered = ()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection. Thousands may have been idle for the same time."""
        self.turns.add(partial(self._close_idle, self.timeout_keep_alive_task))

    def waits_since(self) -> float | None:
        """Return since when the next thing has to come from the client; None if from us."""
        if self._unparsed:
            return None
        if self._head_timer:
            return self._head_timer.when() - self.head_seconds
        if self.timeout_keep_alive_task:
            return self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        if self.cycle.more_body:
            return self.loop.time()
        return 0.0 if self.cycle.response_complete else None  # an unread last answer, or our turn

    def is_unfinished(self) -> bool:
        """Return whether it holds an unfinished head, trailers or queued requests."""
        held = self._unparsed and not self._brings_body
        return bool(held or self._head.is_open or self.cycle.more_body or self.pipeline)

    def wants_reading(self) -> bool:
        """Return whether the request's reader takes more, and nothing waits for its turn."""
        return not (self.flow.read_paused or self._unparsed)

    def _close_idle(self, timer: asyncio.TimerHandle | None) -> None:
        if timer is self.timeout_keep_alive_task:  # else a request has come meanwhile
            super().timeout_keep_alive_handler()

    def _should_upgrade(self) -> bool:
        return False

    def _pass_body(self) -> None:
        """Pass on the chunks that came together as one piece: passing each on takes long."""
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body_bytes += len(body)
        self._overhead += CHUNK_BYTES * (len(pieces) - 1)
        super().on_body(body)

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Parse the request that offered to upgrade as if it had not (RFC 9110, section 7.8)."""
        while True:
            method, version = self.parser.get_method(), self.parser.get_http_version()
            head = write_without_upgrade(method, self.url, version, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                if method == b"CONNECT":
                    raise httptools.HttpParserError("this server is no proxy")
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as exc:
                rest = rest[exc.args[0] :]
            except httptools.HttpParserError as exc:
                return self._explain_error(exc)
            else:
                return None

    def _find_fault(self) -> Callable[[], ApiError] | None:
        """Return what makes the error for what is wrong with the headers."""
        fault = self._head.find_fault(self.scope["http_version"], self.url, self.headers)
        if fault:
            return fault
        if self._is_reserved and not self.url.startswith(PROBES):
            return partial(Overloaded, "All connections of this server are busy: try again.", 1)
        return None

    def _count_unfinished(self, received: int) -> None:
        """Count what is not part of a body, and what has to wait."""
        if self._body_bytes:
            self._bodiless = 0
        else:
            self._bodiless += self._read_bytes
        self._overhead += self._read_bytes - 2 * self._body_bytes
        if max(self._bodiless, self._overhead) > MAX_HEAD_BYTES:
            self._fail(HEAD_LIMIT if self._head.is_open else FRAMING_LIMIT)
        elif self._head.is_open and self._head_timer is None:
            self._start_timer()
        if self._head.is_open or self._bodiless or self.pipeline:
            self.all_connections.hold(self, received + QUEUED_BYTES * len(self.pipeline))

    def _explain_error(self, error: httptools.HttpParserError) -> None:
        if isinstance(error.__context__, Refused):
            self._fail(str(error.__context__))
        else:
            self._fail(f"The request is not valid HTTP/1.1 ({error}).")

    def _fail(self, sentence: str) -> None:
        """Answer with an error after the requests before, and close the connection."""
        if self._is_broken or self.transport.is_closing():
            return
        self._is_broken = True
        self._drop_unparsed()
        self._stop_timer()
        if self._head.is_open or not self.cycle.more_body:  # the error belongs to no request yet
            HttpToolsProtocol.on_message_begin(self)
            self.url = b"/"
            super().on_headers_complete()
            self.scope["method"], self.scope["path"] = UNKNOWN_METHOD, ""
        self.scope[FAULT] = partial(BadRequest, sentence)  # type: ignore[literal-required]
        self.cycle.keep_alive = self.cycle.more_body = False
        self.cycle.message_event.set()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._end_head)

    def _stop_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_head(self) -> None:
        if not self.wants_reading():  # so the client is not late
            self._start_timer()
        else:
            late = partial(self._reject_late_head, self._head_timer)
            self.turns.add(late)  # thousands may be late at the same time

    def _reject_late_head(self, timer: asyncio.TimerHandle | None) -> None:
        if timer and timer is self._head_timer:  # else the head is there, or the client is gone
            self._fail(
                f"The headers did not arrive within {self.head_seconds:g} s: send them faster."
            )


def is_probe(data: bytes) -> bool:
    """Return whether these are the first bytes of a request for a probe, and few."""
    return len(data) <= SHORT_BYTES and data.startswith(PROBE_HEADS)


def find_body(data: bytes) -> int:
    """Return where the body begins after a short head that announces one; 0 if there is none."""
    end = data.find(BLANK_LINE, 0, SHORT_BYTES)
    announced = end > 0 and CONTENT_LENGTH in data[:end].lower()
    return end + len(BLANK_LINE) if announced else 0


def read_address(kind: str, transport: asyncio.Transport) -> tuple[str, int] | None:
    """Return an end of a connection: `peername` or `sockname`."""
    address = transport.get_extra_info(kind)
    return (address[0], address[1]) if isinstance(address, tuple) else None


def install_protocol(settings: Settings, connections: Connections) -> None:
    """Replace the protocol that uvicorn chooses by default. BentoML leaves it the choice."""
    BoundedProtocol.head_seconds = settings.request_timeout_ms / 1000
    BoundedProtocol.all_connections = connections
    BoundedProtocol.turns = Turns(connections.reading.is_full)
    # uvicorn makes a socket to ask for each of them, which takes a third of the time of accepting.
    httptools_impl.get_local_addr = partial(read_address, "sockname")  # type: ignore[attr-defined]
    httptools_impl.get_remote_addr = partial(read_address, "peername")  # type: ignore[attr-defined]
    # uvicorn would make a log line for every request, only to drop it.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
    WS_PROTOCOLS["auto"] = None
