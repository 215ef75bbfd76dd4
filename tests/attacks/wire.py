"""Attacks on the connection itself: framing without end, unread answers, and many connections."""

import contextlib
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import numpy as np
import psutil
from PIL import Image

from service.inference.memory_budget import BYTES_PER_PIXEL
from service.settings import Settings
from tests.attacks.attack import MEGABYTE, Attack
from tests.attacks.picture_files import write_noise
from tests.contract.tree import PICTURE
from tests.contract.wire import connect, read_answer, read_metric, start_post
from tests.server import Server, connect_client, wait_until
from tests.service.quadrants_model import encode

FLOOD_BYTES = 200 * MEGABYTE  # at full size
FLOOD_SECONDS = 1.0  # at least
SLACK = 64 * MEGABYTE
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = CHUNKED + b"1\r\na\r\n0\r\n"
MANY_HEADERS = b"GET /livez HTTP/1.1\r\nHost: t\r\n" + b"a:\r\n" * 15_000 + b"\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
PATHS = LIVEZ.replace(b"/livez", b"/openapi.json")  # its answer has some 60 kB
LATE_BODY = b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nab"
KEY = "a-key"
DESCRIPTORS = 256
REQUEST_SECONDS, EARLY_SECONDS = 5, 2
MAX_PREDICT_SECONDS = 3.0


def flood(start: bytes, piece: bytes) -> Callable[[Server, float], list[str]]:
    """Return an attack: send `start`, then `piece` again and again until the server hangs up.

    It connects anew until enough was sent for long enough.
    """

    def run(server: Server, scale: float) -> list[str]:
        left, end = FLOOD_BYTES * scale, time.monotonic() + FLOOD_SECONDS
        block = piece * (1 + 65_536 // len(piece))
        while left > 0 or time.monotonic() < end:
            with connect(server) as connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                connection.sendall(start)
                while left > 0 or time.monotonic() < end:
                    connection.sendall(block)
                    left -= len(block)
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
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", server.port))
                opened.append(connection)
        yield opened


def send_to_all(connections: list[socket.socket], content: bytes) -> None:
    """Send the same to all, as far as the server takes it."""
    for connection in connections:
        connection.settimeout(0.1)
        with contextlib.suppress(OSError):
            connection.sendall(content)


def leave_pictures_unread(server: Server, scale: float) -> list[str]:
    """Ask for pictures of 23 MB (2 MB in the short form) and read nothing of them."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    picture = encode(Image.fromarray(noise), "JPEG", quality=95)
    size = 4096 if scale == 1 else 1024
    head = (
        f"POST /gradcam?size={size} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(picture)}\r\n\r\n"
    )
    with connect_many(server, max(4, round(30 * scale))) as connections:
        send_to_all(connections, head.encode() + picture)
        time.sleep(1)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: is_all_taken(server), 60)
            return []
        return ["the server kept an unread answer"]


def leave_requests_queued(server: Server, scale: float) -> list[str]:
    """Send as many requests as a connection takes, from many, and read no answer."""
    padded = PATHS.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 4000 + b"\r\n\r\n")
    with connect_many(server, round(600 * scale)) as connections:
        send_to_all(connections, padded * 30)
        time.sleep(2)
    return []


def leave_headers_open(server: Server, scale: float) -> list[str]:
    """Send 60 kB of headers without their end, from many connections."""
    with connect_many(server, round(4000 * scale)) as connections:
        send_to_all(connections, LIVEZ[:-2] + b"X: " + b"x" * 60_000)
        time.sleep(1)
    return []


def leave_heads_open_again(server: Server, scale: float) -> list[str]:
    """Do the same from fewer connections, close them, and begin anew. Good clients are answered."""
    photo = write_noise(400, 300)  # 70 kB: it waits for its turn like the heads
    end, seen = time.monotonic() + max(FLOOD_SECONDS, 10 * scale), []
    while time.monotonic() < end:
        with connect_many(server, 400) as connections:
            send_to_all(connections, LIVEZ[:-2] + b"X: " + b"x" * 60_000)
            try:
                with connect_client(server.port) as client:
                    status = client.post("/predict", content=photo, timeout=20).status_code
                if status != 200:
                    seen.append(f"a good client got {status}")
            except httpx.TransportError as exc:
                seen.append(f"a good client was cut off: {exc!r}")
            time.sleep(0.1)
    return seen


def reset_together(server: Server, scale: float) -> list[str]:
    """Send a request on many connections and reset all of them before their answers."""
    at_once = struct.pack("ii", 1, 0)
    for _ in range(max(2, round(6 * scale))):
        with connect_many(server, max(300, round(1000 * scale))) as connections:
            for connection in connections:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            send_to_all(connections, LIVEZ.replace(b"/livez", b"/metrics"))
        time.sleep(0.5)
    errors = server.read_log().count("Traceback")
    return [f"{errors} errors in the log"] if errors else []


def finish_long_heads(server: Server, scale: float) -> list[str]:
    """Send whole requests with 60 kB of headers each on many connections, and keep these."""
    calls = (LIVEZ[:-2] + b"X: " + b"x" * 60_000 + b"\r\n\r\n") * 3
    with connect_many(server, max(1500, round(6000 * scale))) as connections:
        for connection in connections:
            connection.settimeout(10)
            connection.sendall(calls)
            answers = b""
            while answers.count(b"HTTP/1.1 200") < 3 and (received := connection.recv(4096)):
                answers += received
        time.sleep(1)
    return []


def take_all_connections(server: Server, _: float) -> list[str]:
    """Keep more connections open than the server may have descriptors."""
    worker = psutil.Process(server.pid)
    hard = worker.rlimit(psutil.RLIMIT_NOFILE)[1]
    worker.rlimit(psutil.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    seen = []
    with connect_many(server, DESCRIPTORS + 50) as connections:
        send_to_all(connections, LIVEZ)
        for _ in range(10):
            try:
                with connect_client(server.port) as client:
                    client.get("/livez", timeout=5)
            except httpx.TransportError as exc:
                seen.append(f"a new client was shut out: {exc!r}")
    return seen


def ask_together(path: str, server: Server, scale: float) -> list[str]:
    """Ask for the same on many connections at once, several times on each, and read nothing."""
    call = LIVEZ.replace(b"/livez", path.encode()) * 4
    with connect_many(server, max(20, round(100 * scale))) as opened:
        for connection in opened:
            connection.sendall(call)
        started = time.perf_counter()
        answer = server.client.post("/predict", content=PICTURE, timeout=60)
        seconds = time.perf_counter() - started
        time.sleep(1)
    if answer.status_code != 200 or seconds > MAX_PREDICT_SECONDS:
        return [f"a picture took {seconds:.1f} s and got {answer.status_code}"]
    return []


def hold_bodies(sent: int, server: Server, scale: float) -> list[str]:
    """Announce bodies that need all room, send so many bytes of each, and then nothing more.

    A photograph that comes later must find room. It may be rejected only until the others are
    known to be slow.
    """
    settings = Settings.model_validate({})
    most = settings.max_inflight_bytes - BYTES_PER_PIXEL * settings.max_image_pixels
    photograph = PICTURE + bytes(100_000)
    seen = []
    with connect_many(server, 16) as connections:
        for connection in connections:
            connection.settimeout(10)
            start_post(connection, "/predict/batch", most // 16)
            connection.sendall(bytes(min(sent, most // 16 - 1)))
        if sent:
            arrived = 16 * min(sent, most // 16 - 1)
            wait_until(lambda: holds_or_refused(server, arrived))
            wait_until(
                lambda: server.client.post("/predict", content=photograph).status_code == 200
            )
        end = time.monotonic() + max(FLOOD_SECONDS, 10 * scale)
        while time.monotonic() < end:
            status = server.client.post("/predict", content=photograph).status_code
            if status != 200:
                seen.append(f"a photograph got {status}")
    return seen


def holds_or_refused(server: Server, size: int) -> bool:
    """Return whether so many bytes have arrived, or a body that arrives slowly was given up."""
    given_up = {"route": "/predict/batch", "status": "429"}
    return (
        read_metric(server, "sightglass_inflight_bytes") >= size
        or read_metric(server, "sightglass_requests_total", **given_up) > 0
    )


def hold_places(server: Server, scale: float) -> list[str]:
    """Announce more images than the queue takes, and send none of them, again and again."""
    seen = []
    end = time.monotonic() + max(FLOOD_SECONDS, 10 * scale)
    while time.monotonic() < end:
        with connect_many(server, 300) as connections:
            for connection in connections:
                start_post(connection, "/predict", 1)
            for _ in range(20):
                status = server.client.post("/predict", content=PICTURE).status_code
                if status != 200:
                    seen.append(f"a picture got {status}")
    return seen


def end_together(write: Callable[[], bytes], status: int) -> Callable[[Server, float], list[str]]:
    """Return an attack: the last byte of the same request on many connections at once."""

    def run(server: Server, scale: float) -> list[str]:
        request = write()
        end = time.monotonic() + max(FLOOD_SECONDS, 7 * scale)
        while time.monotonic() < end:
            with connect_many(server, max(20, round(200 * scale))) as connections:
                for connection in connections:
                    connection.settimeout(30)
                    connection.sendall(request[:-1])
                time.sleep(0.3)
                for connection in connections:
                    connection.sendall(request[-1:])
                for connection in connections:
                    got, _, _ = read_answer(connection)
                    if got not in (status, 429):
                        return [f"{request[:20]!r} got {got}"]
        return []

    return run


def be_late_together(
    content: bytes, count: int, status: int
) -> Callable[[Server, float], list[str]]:
    """Return an attack: the same beginning of a request on many connections, and nothing more."""

    def run(server: Server, scale: float) -> list[str]:
        with connect_many(server, max(200, round(count * scale))) as connections:
            send_to_all(connections, content)
            time.sleep(EARLY_SECONDS + 1)
            answers = set()
            for connection in connections[:100]:
                connection.settimeout(10)
                answers.add(read_answer(connection)[0])
        return [] if answers == {status} else [f"{content[:10]!r} got {sorted(answers)}"]

    return run


def write_post(body: bytes, *headers: str) -> bytes:
    """Write a request with a body."""
    lines = ["POST /predict HTTP/1.1", "Host: t", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def write_form() -> bytes:
    """Write a form of 30 kB with thousands of tiny headers."""
    part = b"--x\r\nContent-Disposition: form-data; name=a\r\n" + b"a:b\r\n" * 14 + b"\r\n\r\n"
    body = part * (30_000 // len(part)) + b"--x--\r\n"
    return write_post(body, "Content-Type: multipart/form-data; boundary=x")


def write_packed() -> bytes:
    """Write a body of 60 kB in gzip, most of which are tables: 20 bytes have one each."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < 60_000:
        pieces += packer.compress(b"a" * 20), packer.flush(zlib.Z_FULL_FLUSH)
    return write_post(b"".join(pieces) + packer.flush(), "Content-Encoding: gzip")


def write_path() -> bytes:
    """Write a path of 58 kB that is like those of several endpoints."""
    names = b"a" * 29_000
    return b"GET /v2/models/%b/versions/%b HTTP/1.1\r\nHost: t\r\n\r\n" % (names, names)


def write_query() -> bytes:
    """Write a query of 60 kB that is percent-encoded."""
    query = b"%41" * 20_000
    return b"GET /models/quadrants/attention?%b HTTP/1.1\r\nHost: t\r\n\r\n" % query


def offer_websocket(server: Server, scale: float) -> list[str]:
    """Offer to change to WebSocket, with a body and without a key."""
    for _ in range(10):
        time.sleep(0.1)
        with connect(server) as connection:
            start_post(connection, "/predict", 10, "Connection: Upgrade", "Upgrade: websocket")
            connection.settimeout(5 + 10 * scale)
            try:
                status, _, _ = read_answer(connection)
            except TimeoutError:
                return ["an offer of WebSocket was not answered"]
            if status != 401:
                return [f"an offer of WebSocket was answered with {status}"]
    return []


def is_all_taken(server: Server) -> bool:
    """Return whether connections were closed because of unread answers, and none is left."""
    closed = read_metric(server, "sightglass_connections_closed_total", reason="unread")
    return closed > 0 and read_metric(server, "sightglass_inflight_bytes") == 0


LOCKED = {"api_keys": KEY}
GOOD = {"authorization": f"Bearer {KEY}"}
HASTY = {"request_timeout_ms": 1000 * REQUEST_SECONDS}
EARLY = {"request_timeout_ms": 1000 * EARLY_SECONDS}
PATIENT = {"request_timeout_ms": 120_000}  # so that no deadline ends what is held
TAKEN = {"max_connections": DESCRIPTORS - 64}
NOWHERE = LAST_CHUNK.replace(b"/predict", b"/nowhere")
ATTACKS = (
    Attack("trailers without end", flood(LAST_CHUNK, b"X: yz\r\n"), SLACK),
    Attack("long trailers", flood(LAST_CHUNK, b"X: " + b"y" * 8000 + b"\r\n"), SLACK),
    Attack("one trailer without end", flood(LAST_CHUNK + b"X: ", b"y"), SLACK),
    Attack(
        "trailers without a key", flood(NOWHERE, b"X: yz\r\n"), SLACK, settings=LOCKED, headers=GOOD
    ),
    Attack("a chunk extension without end", flood(CHUNKED + b"1;", b"x"), SLACK),
    Attack("a chunk size without end", flood(CHUNKED, b"0"), SLACK),
    Attack("tiny chunks", flood(CHUNKED, b"1\r\na\r\n"), SLACK),
    Attack("chunks as small as their framing", flood(CHUNKED, b"5\r\nabcde\r\n"), SLACK),
    Attack("tiny headers", flood(LIVEZ[:-2], b"a:b\r\n"), SLACK),
    Attack("many empty headers", flood(b"", MANY_HEADERS), SLACK),
    Attack("empty lines", flood(LIVEZ, b"\r\n"), SLACK),
    Attack("queued requests", flood(b"", LIVEZ), SLACK),
    Attack("queued requests, unread answers", leave_requests_queued, SLACK, settings=HASTY),
    Attack("headers left open", leave_headers_open, SLACK),
    Attack("headers late together", be_late_together(LIVEZ[:-4], 4000, 400), settings=EARLY),
    Attack("bodies late together", be_late_together(LATE_BODY, 250, 408), settings=EARLY),
    Attack("headers left open, again and again", leave_heads_open_again, SLACK),
    Attack("idle connections after long headers", finish_long_heads, SLACK),
    Attack("connections reset together", reset_together, SLACK),
    Attack("unread pictures", leave_pictures_unread, settings=HASTY),
    Attack(
        "bodies that are announced and do not come",
        partial(hold_bodies, 0),
        SLACK,
        settings=PATIENT,
    ),
    Attack(
        "bodies that stop before their end", partial(hold_bodies, 100 * MEGABYTE), settings=PATIENT
    ),
    Attack("images that do not come", hold_places, SLACK),
    Attack("forms from many at once", end_together(write_form, 400), SLACK),
    Attack("packed bodies from many at once", end_together(write_packed, 415), SLACK),
    Attack("paths from many at once", end_together(write_path, 404), SLACK),
    Attack("queries from many at once", end_together(write_query, 400), SLACK),
    Attack("all connections taken", take_all_connections, SLACK, settings=TAKEN),
    Attack("metrics for many", partial(ask_together, "/metrics")),
    Attack("all models for many", partial(ask_together, "/models")),
    Attack("the description for many", partial(ask_together, "/openapi.json")),
    Attack("an offer of WebSocket", offer_websocket, SLACK, settings=LOCKED, headers=GOOD),
)
