"""What is not the service's answer is a `ServiceFailure`, and is not read without end."""

import asyncio
import contextlib
import copy
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from client import AsyncClient, Client, Heatmap, Overloaded, ServiceFailure
from client.pictures import Picture

URL = "http://service"
PICTURE: Picture = b"picture"
IMAGE = {"width": 2, "height": 1}
PREDICTION = {"label": "a", "index": 0, "probability": 0.5}
EXPLANATION = {
    "target": PREDICTION,
    "against": None,
    "layer": "conv",
    "shape": [1, 2],
    "cam": [[0.5, -1.0]],
    "empty": False,
    "box": [0, 0, 1, 1],
    "picture": "YQ==",
    "verification": {"probability": 0.5, "hot_blurred": 0.1, "cold_blurred": 0.5},
    "region": {"of": "a", "box": [0, 0, 1, 1], "pixels": 4},
}
RESULT = {
    "predictions": [PREDICTION],
    "classes": [PREDICTION | {"share": 0.5, "pixels": 1, "box": [0, 0, 1, 1]}],
    "mask": "YQ==",
    "image": IMAGE,
    "warnings": [{"code": "unfamiliar", "message": "Unfamiliar."}],
    "explanations": [EXPLANATION],
}
OWNER = {"model": "m", "version": "1"}
ERROR = {"error": {"code": "invalid_image", "message": "Broken.", "request_id": "7"}}
BATCH = {**OWNER, "results": [RESULT, ERROR]}
ODD: tuple[Any, ...] = (None, True, 5, 10**400, "é", [], [None], {}, {"error": []})
LABELS = {"x-model": "a/1", "x-predicted-label": "a", "x-target-label": "b"}

CALLS: dict[str, tuple[Any, ...]] = {
    "predict": (PICTURE,),
    "explain": (PICTURE,),
    "predict_many": ([PICTURE, PICTURE],),
    "explain_many": ([PICTURE, PICTURE],),
    "draw": (PICTURE,),
    "segment": (PICTURE,),
    "list_models": (),
}
Respond = Callable[[httpx.Request], httpx.Response]


def ask(respond: Respond, call: str, **settings: Any) -> Any:
    """What a call returns."""
    with Client(URL, transport=httpx.MockTransport(respond), **settings) as caller:
        return getattr(caller, call)(*CALLS[call])


def ask_async(respond: Respond, call: str, **settings: Any) -> Any:
    """What a call of the client for asyncio returns."""

    async def run() -> Any:
        async with AsyncClient(URL, transport=httpx.MockTransport(respond), **settings) as caller:
            return await getattr(caller, call)(*CALLS[call])

    return asyncio.run(run())


def reply(content: bytes, status: int = 200, **headers: Any) -> Respond:
    return lambda _: httpx.Response(status, content=content, headers=headers)


@pytest.mark.parametrize("ask", [ask, ask_async])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "respond",
    [
        reply(b""),
        reply(b"{}"),
        reply(b"5"),
        reply(b"\xff\xfe\x00"),
        reply(b"[" * 200_000),
        reply(b'{"a":' * 200_000, 400),
        reply(b'{"a":' + b"9" * 5000 + b"}"),
        reply(json.dumps(ERROR | {"error": []}).encode(), 400),
        reply(b'{"error":{"code":[],"message":"x","request_id":""}}', 422),
        reply(b'{"error":{"code":"bad_request","message":5,"request_id":""}}', 400),
        reply(b"", 302, **LABELS, **{"content-type": "a", "location": "http://127.0.0.1:1/"}),
        reply(b"", 302, location="/" + "a" * 65_530),
    ],
)
def test_any_other_answer_is_a_failure_of_the_service(
    ask: Callable[..., Any], call: str, respond: Respond
) -> None:
    with pytest.raises(ServiceFailure):
        ask(respond, call)


@pytest.mark.parametrize(
    ("call", "content"),
    [
        ("predict_many", {}),
        ("predict_many", {"results": None}),
        ("predict_many", {**OWNER, "results": [1, 2]}),
        ("predict_many", {**OWNER, "results": [RESULT]}),
        ("predict_many", {**OWNER, "results": [{"error": "x"}] * 2}),
        ("predict_many", {**OWNER, "results": [{"error": {"code": [], "message": "x"}}] * 2}),
        ("predict", {**OWNER, **RESULT, "mask": "a"}),
        ("predict", {**OWNER, **RESULT, "predictions": None}),
        ("explain", {**OWNER, **RESULT, "explanations": [EXPLANATION | {"cam": [["a"]]}]}),
        ("list_models", {"models": [1]}),
    ],
)
def test_an_answer_that_lacks_something_is_a_failure_of_the_service(
    call: str, content: dict[str, Any]
) -> None:
    with pytest.raises(ServiceFailure, match="not the service's"):
        ask(reply(json.dumps(content).encode()), call)


@pytest.mark.parametrize("probability", ["abc", "1e", "0.5, 0.6"])
def test_headers_that_are_not_the_services_are_a_failure(probability: str) -> None:
    headers: dict[str, Any] = {**LABELS, "content-type": "image/png"}
    headers["x-target-probability"] = probability
    with pytest.raises(ServiceFailure):
        ask(reply(b"x", **headers), "draw")
    assert isinstance(ask(reply(b"x", **headers | {"x-target-probability": "1"}), "draw"), Heatmap)


def test_whatever_stands_in_an_answer_no_other_exception_escapes() -> None:
    """Each value of an answer is replaced by each odd one."""
    read = 0
    for path in find_paths(BATCH):
        for odd in ODD:
            content = json.dumps(replace(BATCH, path, odd)).encode()
            with contextlib.suppress(ServiceFailure):
                read += len(ask(reply(content), "explain_many"))
    assert read > 0  # `shape` may be anything, for example


def find_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value."""
    if path:
        yield path
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from find_paths(value[key], (*path, key))


def replace(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with another value at the end of the way."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return changed


def test_a_service_that_asks_for_a_pause_of_ages_is_not_slept_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("client.clients.time.sleep", pauses.append)
    body = b'{"error":{"code":"overloaded","message":"Full.","request_id":""}}'
    busy = reply(body, 429, **{"retry-after": "9" * 400})
    with pytest.raises(Overloaded):
        ask(busy, "predict", max_wait=1e5)
    assert pauses
    assert max(pauses) <= 3600


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body without end that counts its pieces and says whether it was closed."""

    def __init__(self, piece: bytes) -> None:
        self.piece, self.taken, self.is_closed = piece, 0, False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.taken += 1
            yield self.piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.close()


@pytest.mark.parametrize("ask", [ask, ask_async])
@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_without_end_is_given_up(ask: Callable[..., Any], status: int) -> None:
    body = Endless(b" " * 1000)
    with pytest.raises(ServiceFailure, match="max_answer_bytes"):
        ask(lambda _: httpx.Response(status, stream=body), "predict", max_answer_bytes=10_000)
    assert (body.taken, body.is_closed) == (11, True)


@pytest.mark.parametrize("ask", [ask, ask_async])
def test_what_an_answer_unpacks_to_is_bounded(ask: Callable[..., Any]) -> None:
    body = Endless(gzip.compress(bytes(1_000_000)))
    packed = {"content-encoding": "gzip"}
    with pytest.raises(ServiceFailure, match="max_answer_bytes"):
        ask(
            lambda _: httpx.Response(200, headers=packed, stream=body),
            "predict",
            max_answer_bytes=900_000,
        )
    assert body.taken == 1


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "GZIP,deflate", "compress"])
@pytest.mark.parametrize("ask", [ask, ask_async])
def test_compressions_that_may_unpack_to_anything_are_not_undone(
    ask: Callable[..., Any], coding: str
) -> None:
    asked: list[str] = []
    body = Endless(b"x")

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200, headers={"content-encoding": coding}, stream=body)

    with pytest.raises(ServiceFailure, match="compressed"):
        ask(respond, "predict")
    assert (asked, body.taken) == (["gzip, deflate"], 0)


@pytest.mark.parametrize("ask", [ask, ask_async])
def test_a_compressed_answer_is_read_and_a_broken_one_is_a_failure(ask: Callable[..., Any]) -> None:
    packed = gzip.compress(json.dumps(OWNER | RESULT).encode())

    def respond(content: bytes) -> Respond:
        headers = {"content-encoding": "gzip"}
        return lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(content))

    assert ask(respond(packed), "predict").model == "m"
    with pytest.raises(ServiceFailure):
        ask(respond(b"no gzip"), "predict")


@contextlib.contextmanager
def serve_answers() -> Iterator[tuple[str, set[int]]]:
    """A server of one answer. Yield its URL and the ports that its clients came from."""
    content, ports = json.dumps({"models": []}).encode(), set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ports.add(self.client_address[1])
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", ports
        finally:
            server.shutdown()


def test_one_connection_is_used_for_one_request_after_the_other() -> None:
    with serve_answers() as (url, ports):
        with Client(url) as caller:
            assert [caller.list_models() for _ in range(3)] == [[]] * 3
        assert len(ports) == 1

        async def run() -> None:
            async with AsyncClient(url) as caller:
                assert [await caller.list_models() for _ in range(3)] == [[]] * 3

        asyncio.run(run())
        assert len(ports) == 2


@pytest.mark.parametrize("ask_ready", ["sync", "async"])
def test_a_service_that_does_not_answer_in_time_is_not_ready(ask_ready: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    async def run() -> bool:
        async with AsyncClient(URL, transport=httpx.MockTransport(fail)) as caller:
            return await caller.is_ready()

    with Client(URL, transport=httpx.MockTransport(fail)) as caller:
        assert not (caller.is_ready() if ask_ready == "sync" else asyncio.run(run()))
