"""The protocol: framing, trailers, offers to upgrade, queued requests and broken ones."""

import asyncio
import json
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http.request import FAULT
from service.server.connections import Connections
from service.server.head import MAX_FIELDS, MAX_HEAD_BYTES
from service.server.turns import Turns
from service.server.uvicorn_protocol import (
    MAX_QUEUED,
    SHORT_BYTES,
    BoundedProtocol,
    is_probe,
    read_address,
)
from service.settings import Settings

START = b"POST /a?b=c HTTP/1.1\r\nHost: t\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.is_paused = False

    def get_extra_info(self, _: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""


async def show_request(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what the application sees of a request, one JSON object a line."""
    body, more = b"", FAULT not in scope
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    seen = {
        "call": f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}"
        if "query_string" in scope
        else scope["method"],
        "headers": [name.decode() for name, _ in scope["headers"]],
        "body": body.decode(),
        "fault": str(scope[FAULT]()) if FAULT in scope else None,
    }
    answer = json.dumps(seen).encode() + b"\n"
    length = str(len(answer)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def make_protocol(application: Any, head_seconds: float = 10.0) -> BoundedProtocol:
    """A protocol with a connection."""
    config = uvicorn.Config(application, log_config=None, server_header=False)
    config.load()
    protocol = BoundedProtocol(config, ServerState(), {})
    protocol.head_seconds = head_seconds
    protocol.all_connections = Connections(Settings.model_validate({}), lambda: False)
    protocol.turns = Turns(lambda: False)
    protocol.connection_made(Transport())
    return protocol


def exchange(*pieces: bytes, head_seconds: float = 10.0) -> tuple[list[dict[str, Any]], bool]:
    """Send the pieces one after the other. Return the answers, and whether the server closed."""

    async def run() -> tuple[bytes, bool]:
        protocol = make_protocol(show_request, head_seconds)
        transport = protocol.transport
        assert isinstance(transport, Transport)
        for piece in pieces:
            protocol.data_received(piece)
            for _ in range(3):
                await asyncio.sleep(0)
        for _ in range(20 * MAX_QUEUED):
            await asyncio.sleep(0)
        await asyncio.sleep(2 * head_seconds if head_seconds < 1 else 0)
        answers, closed = transport.written, transport.closed
        protocol.connection_lost(None)
        return answers, closed

    answers, closed = asyncio.run(run())
    lines = answers.split(b"\n")
    return [json.loads(line) for line in lines if line.startswith(b"{")], closed


@pytest.mark.parametrize("is_split", [False, True])
def test_trailers_have_no_effect(is_split: bool) -> None:
    body, trailers = b"1\r\na\r\n0\r\n", b"Authorization: Bearer x\r\nX-Request-Id: y\r\n\r\n"
    pieces = [START + CHUNKED, body, trailers] if is_split else [START + CHUNKED + body + trailers]
    [seen], closed = exchange(*pieces)
    assert seen["headers"] == ["host", "transfer-encoding"]
    assert (seen["body"], seen["fault"], closed) == ("a", None, False)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"1\r\na\r\n0\r\nX: ", b"y"),
        (b"1;", b"x"),
        (b"", b"0"),
        (b"", b"1\r\na\r\n"),
    ],
    ids=["a long trailer", "an extension", "a size", "tiny chunks"],
)
def test_framing_without_end_is_an_error(start: bytes, piece: bytes) -> None:
    pieces = [piece * (4000 // len(piece))] * 25
    [seen], closed = exchange(START + CHUNKED + start, *pieces)
    assert f"{MAX_HEAD_BYTES} bytes of chunk sizes" in seen["fault"]
    assert closed


def test_small_chunks_of_a_large_body_are_accepted() -> None:
    line = b"x" * 75 + b"\n"
    chunks = b"%x\r\n%b\r\n" % (len(line), line) * 400
    [seen], closed = exchange(START + CHUNKED, *[chunks] * 50, b"0\r\n\r\n")
    assert len(seen["body"]) == len(line) * 400 * 50
    assert not closed


def test_chunks_as_small_as_their_framing_are_accepted_up_to_a_number() -> None:
    chunk = b"5\r\nabcde\r\n"
    [seen], closed = exchange(START + CHUNKED, chunk * 900, b"0\r\n\r\n")
    assert (seen["body"], seen["fault"], closed) == ("abcde" * 900, None, False)
    [seen], closed = exchange(START + CHUNKED, chunk * 4000)
    assert "larger chunks" in seen["fault"]
    assert closed


def test_tiny_chunks_that_come_one_at_a_time_are_accepted() -> None:
    [seen], closed = exchange(START + CHUNKED, *[b"5\r\nabcde\r\n"] * 3000, b"0\r\n\r\n")
    assert (seen["body"], seen["fault"], closed) == ("abcde" * 3000, None, False)


def test_queued_requests_keep_their_own_bodies() -> None:
    chunked = START + CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    answers, _ = exchange((chunked + START + b"Content-Length: 2\r\n\r\nde") * 2)
    assert [seen["body"] for seen in answers] == ["abc", "de"] * 2


@pytest.mark.parametrize(
    ("start", "end"),
    [(START, b"\r\n"), (START + CHUNKED + b"1\r\na\r\n0\r\n", b"\r\n")],
    ids=["headers", "trailers"],
)
@pytest.mark.parametrize("is_split", [False, True])
def test_there_are_only_so_many_header_lines(start: bytes, end: bytes, is_split: bool) -> None:
    def send(count: int) -> tuple[list[dict[str, Any]], bool]:
        pieces = [start, b"a:\r\n" * count, end]
        return exchange(*(pieces if is_split else [b"".join(pieces)]))

    [seen], closed = send(MAX_FIELDS - start.count(b": "))
    assert (seen["fault"], closed) == (None, False)
    [seen], closed = send(MAX_FIELDS + 1 - start.count(b": "))
    assert f"More than {MAX_FIELDS} lines" in seen["fault"]
    assert closed


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0, h2c"])
@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\nabc", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"]
)
def test_an_offer_to_upgrade_is_ignored(upgrade: bytes, delayed: bool, framing: bytes) -> None:
    head, _, body = (START + OFFER.replace(b"h2c", upgrade) + framing).partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    answers, closed = exchange(*([head, body] if delayed else [head + body]), START + b"\r\n")
    assert [seen["call"] for seen in answers] == ["POST /a?b=c"] * 2
    assert [seen["body"] for seen in answers] == ["abc", ""]
    assert "connection" in answers[0]["headers"]
    assert "upgrade" not in answers[0]["headers"]
    assert not closed


def test_queued_offers_to_upgrade_are_answered_in_order() -> None:
    requests = [START.replace(b"/a", b"/%d" % n) + OFFER + b"\r\n" for n in range(5)]
    answers, _ = exchange(b"".join(requests))
    assert [seen["call"] for seen in answers] == [f"POST /{n}?b=c" for n in range(5)]


def test_a_proxy_request_is_an_error() -> None:
    [seen], closed = exchange(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nabc")
    assert "no proxy" in seen["fault"]
    assert closed


@pytest.mark.parametrize(
    "broken",
    [b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n folded: a\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"],
)
def test_requests_before_a_broken_one_are_answered_first(broken: bytes) -> None:
    whole = START + b"Content-Length: 1\r\n\r\na"
    answers, closed = exchange(whole * 3 + broken + whole)
    assert [bool(seen["fault"]) for seen in answers] == [False] * 3 + [True]
    assert closed


def test_a_broken_body_is_an_error_of_its_own_request() -> None:
    for pieces in ([START + CHUNKED + b"zz\r\n"], [START + CHUNKED, b"1\r\na\r\n", b"zz\r\n"]):
        [seen], closed = exchange(*pieces)
        assert seen["call"] == "POST /a?b=c"
        assert closed


@pytest.mark.parametrize("earlier", [b"", START + b"\r\n"], ids=["first", "second"])
@pytest.mark.parametrize(
    "target", [b"http://", b"http://a:99999/b", b"http://[::1/b", b"/\xff", b"?b", b"b"]
)
def test_a_url_that_is_not_valid_is_an_error(target: bytes, earlier: bytes) -> None:
    answers, closed = exchange(earlier + b"GET " + target + b" HTTP/1.1\r\nHost: t\r\n\r\n")
    assert [bool(seen["fault"]) for seen in answers] == [False] * bool(earlier) + [True]
    assert "not valid" in answers[-1]["fault"]
    assert closed


@pytest.mark.parametrize(
    ("target", "call"),
    [(b"http://a", "/?"), (b"http://a?b=c", "/?b=c"), (b"http://a/b", "/b?"), (b"*", "*?")],
)
def test_an_absolute_url_is_accepted(target: bytes, call: str) -> None:
    [seen], closed = exchange(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (seen["call"], seen["fault"], closed) == (f"OPTIONS {call}", None, False)


@pytest.mark.parametrize(
    "codings",
    [b"gzip, chunked", b"identity", b"xchunked", b"", b"chunked\r\nTransfer-Encoding: chunked"],
)
def test_the_only_transfer_coding_is_chunked(codings: bytes) -> None:
    coded = b"Transfer-Encoding: " + codings + b"\r\n\r\n1\r\na\r\n0\r\n\r\n"
    [seen], closed = exchange(START + coded)
    assert "Transfer-Encoding" in seen["fault"]
    assert closed
    [seen], _ = exchange(START + CHUNKED.replace(b"chunked", b"Chunked ") + b"1\r\na\r\n0\r\n\r\n")
    assert (seen["body"], seen["fault"]) == ("a", None)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\r\n",
        b"GET / HTTP/0.9\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_other_versions_of_http_are_errors(head: bytes) -> None:
    [seen], closed = exchange(head + b"\r\n")
    assert "HTTP/" in seen["fault"]
    assert closed


@pytest.mark.parametrize(
    "host", [b"a b/@", b"a/", b"u@a", b"a:x", b"\xff", b"[::1", b"a?b", b"a, b"]
)
def test_a_host_that_is_none_is_an_error(host: bytes) -> None:
    [seen], closed = exchange(START.replace(b" t\r", b" %b\r" % host) + b"\r\n")
    assert "Host" in seen["fault"]
    assert closed


@pytest.mark.parametrize(
    "host", [b"a_b-c.d:80", b"[::1]:3000", b"[fe80::1%25eth0]", b"1.2.3.4", b"a "]
)
def test_a_host_may_be_a_name_or_an_address(host: bytes) -> None:
    [seen], _ = exchange(START.replace(b" t\r", b" %b\r" % host) + b"\r\n")
    assert seen["fault"] is None


def test_a_length_with_thousands_of_digits_is_an_error() -> None:
    [seen], closed = exchange(START + b"Content-Length: " + b"0" * 5000 + b"3\r\n\r\nabc")
    assert "at most 20 digits" in seen["fault"]
    assert closed
    [seen], _ = exchange(START + b"Content-Length: 00003\r\n\r\nabc")
    assert (seen["body"], seen["fault"]) == ("abc", None)


@pytest.mark.parametrize(
    ("head", "is_accepted"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", True),
    ],
)
def test_there_must_be_one_host_header(head: bytes, is_accepted: bool) -> None:
    [seen], closed = exchange(head)
    assert (seen["fault"] is None) == is_accepted
    assert closed or is_accepted


def test_a_few_requests_may_be_sent_before_the_first_answer() -> None:
    answers, closed = exchange((START + b"\r\n") * (MAX_QUEUED + 1))
    assert [seen["fault"] for seen in answers] == [None] * (MAX_QUEUED + 1)
    assert not closed
    answers, closed = exchange((START + b"\r\n") * 5000)
    assert len(answers) == MAX_QUEUED + 2
    assert f"More than {MAX_QUEUED} requests" in answers[-1]["fault"]
    assert closed


@pytest.mark.parametrize("pieces", [1, 50], ids=["in one piece", "in many"])
def test_long_headers_are_an_error_but_not_a_long_body_with_them(pieces: int) -> None:
    long = START + b"X: " + b"x" * 70_000 + b"\r\n\r\n"
    step = len(long) // pieces + 1
    [seen], closed = exchange(*[long[at : at + step] for at in range(0, len(long), step)])
    assert f"{MAX_HEAD_BYTES} bytes of headers" in seen["fault"]
    assert closed
    [seen], _ = exchange(START + b"Content-Length: 90000\r\n\r\n" + b"x" * 90_000)
    assert seen["fault"] is None


def test_headers_must_arrive_in_time() -> None:
    [seen], closed = exchange(START, head_seconds=0.01)
    assert "within 0.01 s" in seen["fault"]
    assert closed


def test_all_requests_of_a_lost_connection_learn_of_it() -> None:
    seen: list[str] = []

    async def wait_for_the_end(scope: Any, receive: Any, _: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        seen.append(f"{scope['path']} {message['type']}")

    async def run() -> None:
        protocol = make_protocol(wait_for_the_end)
        protocol.data_received(START + b"\r\n" + START.replace(b"/a", b"/b") + b"\r\n")
        await asyncio.sleep(0.01)
        protocol.connection_lost(None)
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert seen == ["/a http.disconnect"]


def test_a_connection_whose_head_waits_for_its_turn_is_not_read() -> None:
    async def run() -> tuple[list[bool], bytes]:
        protocol = make_protocol(show_request)
        transport = protocol.transport
        assert isinstance(transport, Transport)
        protocol.turns.note_arrival()
        protocol.data_received(START + b"Content-Length: 3\r\n\r\n")
        seen = [transport.is_paused]
        protocol.data_received(b"abc")  # what was read before
        for _ in range(10):
            await asyncio.sleep(0)
        seen.append(transport.is_paused)
        return seen, transport.written

    seen, written = asyncio.run(run())
    assert seen == [True, False]
    assert b'"body": "abc"' in written


def test_what_follows_a_broken_head_is_read_and_dropped() -> None:
    """Else the client would be cut off before it reads why."""

    async def run() -> list[bool]:
        protocol = make_protocol(show_request)
        transport = protocol.transport
        assert isinstance(transport, Transport)
        await asyncio.sleep(0)
        protocol.turns.add(lambda: None)  # others wait
        protocol.data_received(b"no HTTP\r\n\r\n")
        protocol.data_received(b"a" * 5000)
        seen = [transport.is_paused]
        await asyncio.sleep(0)
        return [*seen, transport.is_paused]

    assert asyncio.run(run()) == [True, False]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n", True),
        (b"GET /v2/health/ready HTTP/1.1\r\n", True),
        (b"GET /models HTTP/1.1\r\nHost: t\r\n\r\n", False),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * SHORT_BYTES, False),  # it only begins like one
    ],
)
def test_a_probe_is_short(data: bytes, expected: bool) -> None:
    assert is_probe(data) is expected


def test_both_ends_of_a_connection_are_known() -> None:
    async def connect() -> None:
        loop = asyncio.get_running_loop()
        made: asyncio.Future[asyncio.Transport] = loop.create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                made.set_result(transport)

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            transport = await made
            assert read_address("sockname", transport) == server.sockets[0].getsockname()
            assert read_address("peername", transport) == writer.get_extra_info("sockname")
            transport.close()
            writer.close()
        assert read_address("no such", transport) is None

    asyncio.run(connect())


@pytest.mark.parametrize("requests", [1, 3])
def test_an_idle_connection_does_not_keep_its_last_heads(requests: int) -> None:
    head = b"GET /a HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 500 + b"\r\n\r\n"

    async def run() -> list[Any]:
        protocol = make_protocol(show_request)
        protocol.data_received(head * requests)
        while protocol.pipeline or not protocol.cycle or not protocol.cycle.response_complete:
            await asyncio.sleep(0)
        cycles = [protocol.cycle, *protocol._unanswered]
        protocol.connection_lost(None)
        kept = [protocol.headers, protocol.scope, protocol.url]
        return [*kept, *(cycle.scope for cycle in cycles)]

    assert not any(asyncio.run(run()))


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    ("sent", "is_held"),
    [
        (START + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000, False),
        (START + b"X: " + b"x" * 60_000, True),
    ],
    ids=["a body", "a head without end"],
)
def test_a_picture_that_waits_for_its_turn_is_not_held_against_its_client(
    sent: bytes, is_held: bool, is_lost: bool
) -> None:
    async def run() -> None:
        protocol = make_protocol(show_request)
        counted = protocol.all_connections
        while protocol.turns.may_skip():
            pass
        protocol.data_received(sent)
        waiting, held = counted.reading._waiting_bytes, counted._held_bytes
        assert (waiting, held) == ((0, len(sent)) if is_held else (len(sent), 0))
        if is_lost:
            protocol.connection_lost(None)
            assert counted._held_bytes == 0
        else:
            for _ in range(20):
                await asyncio.sleep(0)
            protocol.connection_lost(None)
        assert counted.reading._waiting_bytes == 0
        assert counted._held_bytes == 0

    asyncio.run(run())
