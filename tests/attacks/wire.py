"""Attacks on the connection itself: framing without end, unread answers, and many connections."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from tests.attacks.attack import MEGABYTE, Attack
from tests.contract.wire import connect, read_answer, start_post
from tests.server import Server
from tests.service.quadrants_model import encode

SECONDS = 5.0  # of a flood, at full size
SLACK = 64 * MEGABYTE
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_PATH = CHUNKED.replace(b"/predict", b"/nowhere")
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
KEY = "a-key"


def flood(start: bytes, piece: bytes) -> Callable[[Server, float], list[str]]:
    """Return an attack: send `start`, then `piece` again and again until the server hangs up."""

    def run(server: Server, scale: float) -> list[str]:
        end = time.monotonic() + SECONDS * scale
        block = piece * (1 + 65_536 // len(piece))
        while time.monotonic() < end:
            with connect(server) as connection, contextlib.suppress(OSError):
                connection.settimeout(1)
                connection.sendall(start)
                while time.monotonic() < end:
                    connection.sendall(block)
        return []

    return run


@contextlib.contextmanager
def connect_many(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Open many connections, with little room for what is received."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", server.port))
                opened.append(connection)
        yield opened


def leave_pictures_unread(server: Server, scale: float) -> list[str]:
    """Ask for pictures of 23 MB from thirty connections and read nothing of them."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    picture = encode(Image.fromarray(noise), "JPEG", quality=95)
    head = f"POST /gradcam?size=4096 HTTP/1.1\r\nHost: t\r\nContent-Length: {len(picture)}\r\n\r\n"
    with connect_many(server, max(4, round(30 * scale))) as connections:
        for connection in connections:
            connection.sendall(head.encode() + picture)
        time.sleep(8 + 20 * scale)
        return [] if all(is_closed(c) for c in connections) else ["an unread answer was kept"]


def leave_small_answers_unread(server: Server, scale: float) -> list[str]:
    """Ask for the list of paths from hundreds of connections and read nothing of it."""
    request = LIVEZ.replace(b"/livez", b"/openapi.json")
    with connect_many(server, round(1500 * scale)) as connections:
        for _ in range(20):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(request)
        time.sleep(3)
    return []


def leave_requests_queued(server: Server, scale: float) -> list[str]:
    """Send as many requests as a connection takes, from many, and read no answer."""
    padded = LIVEZ.replace(b"\r\n\r\n", b"\r\nX: " + bytes(4000).replace(b"\0", b"x") + b"\r\n\r\n")
    with connect_many(server, round(1500 * scale)) as connections:
        for connection in connections:
            connection.settimeout(0.05)
            with contextlib.suppress(OSError):
                connection.sendall(padded.replace(b"/livez", b"/openapi.json") * 60)
        time.sleep(2)
    return []


def leave_headers_open(server: Server, scale: float) -> list[str]:
    """Send 60 kB of headers without their end, from many connections."""
    with connect_many(server, round(4000 * scale)) as connections:
        for connection in connections:
            connection.settimeout(0.05)
            with contextlib.suppress(OSError):
                connection.sendall(LIVEZ[:-2] + b"X: " + b"x" * 60_000)
        time.sleep(2)
    return []


def take_all_connections(server: Server, scale: float) -> list[str]:
    """Keep more connections open than the server accepts."""
    with connect_many(server, 150) as connections:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(LIVEZ)
        time.sleep(1 + 4 * scale)
    return []


def offer_websockets(server: Server, scale: float) -> list[str]:
    """Offer to change to WebSocket, with a body and without a key."""
    with connect(server) as connection:
        start_post(connection, "/predict", 10, "Connection: Upgrade", "Upgrade: websocket")
        connection.settimeout(5 + 10 * scale)
        try:
            status, _, _ = read_answer(connection)
        except TimeoutError:
            return ["an offer of WebSocket was not answered"]
    return [] if status == 401 else [f"an offer of WebSocket was answered with {status}"]


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection. Read what has arrived."""
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def send_from_many(
    run: Callable[[Server, float], list[str]], count: int
) -> Callable[[Server, float], list[str]]:
    """Return an attack that runs another one several times at once."""

    def run_all(server: Server, scale: float) -> list[str]:
        with ThreadPoolExecutor(count) as threads:
            results = list(threads.map(lambda _: run(server, scale), range(count)))
        return [sentence for seen in results for sentence in seen]

    return run_all


LAST_CHUNK = CHUNKED + b"1\r\na\r\n0\r\n"
LOCKED = {"settings": {"api_keys": KEY}, "headers": {"authorization": f"Bearer {KEY}"}}
ATTACKS = (
    Attack("trailers", flood(LAST_CHUNK, b"X: yz\r\n"), SLACK),
    Attack("trailers-long", flood(LAST_CHUNK, b"X: " + b"y" * 8000 + b"\r\n"), SLACK),
    Attack("trailer-without-end", flood(LAST_CHUNK + b"X: ", b"y"), SLACK),
    Attack(
        "trailers-without-key",
        flood(LAST_CHUNK.replace(b"/predict", b"/nowhere"), b"X: yz\r\n"),
        SLACK,
        **LOCKED,
    ),
    Attack("chunk-extension", flood(CHUNKED + b"1;", b"x"), SLACK),
    Attack("chunk-size", flood(CHUNKED, b"0"), SLACK),
    Attack("tiny-chunks", flood(CHUNKED, b"1\r\na\r\n"), SLACK),
    Attack("tiny-headers", flood(LIVEZ[:-2], b"a:b\r\n"), SLACK),
    Attack("pipelined", flood(b"", LIVEZ), SLACK),
    Attack("pipelined-unread", leave_requests_queued, SLACK),
    Attack("empty-lines", flood(LIVEZ, b"\r\n"), SLACK),
    Attack("open-headers", leave_headers_open, SLACK),
    Attack("unread-pictures", leave_pictures_unread, settings={"request_timeout_ms": 5000}),
    Attack("unread-answers", leave_small_answers_unread, SLACK),
    Attack("connections", take_all_connections, SLACK),
    Attack("websocket", offer_websockets, SLACK, **LOCKED),
)
