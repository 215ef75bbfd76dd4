"""Attacks on the port for gRPC: calls without end, messages that grow, frames that cost."""

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

from tests.attacks.attack import MEGABYTE, Attack
from tests.attacks.wire import is_all_taken
from tests.contract.tree import PICTURE
from tests.contract.wire import read_metric
from tests.server import Server, find_free_port, wait_until

SECONDS = 1.0  # of a flood, at least
SLACK = 64 * MEGABYTE
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
RESOURCE_EXHAUSTED = 8  # the status of a call that sends too much
NO_WINDOW = b"\x00\x04" + bytes(4)  # the setting: no answer may be sent
MODEL = b"\x0a\x09quadrants"
TINY_TENSOR = b"\x2a\x00"


def make_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame of HTTP/2."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def make_headers(call: str, *fields: tuple[str, str]) -> bytes:
    """Return the block of headers of a call, which may be sent again and again."""
    from hpack import Encoder

    encoder = Encoder()
    encoder.header_table_size = 0
    names = {":method": "POST", ":scheme": "http", ":authority": "t"}
    names |= {":path": f"/inference.GRPCInferenceService/{call}"}
    names |= {"te": "trailers", "content-type": "application/grpc"}
    return bytes(encoder.encode([*names.items(), *fields]))


def make_message(content: bytes, length: int | None = None) -> bytes:
    """Return a message with its length."""
    return b"\0" + (len(content) if length is None else length).to_bytes(4, "big") + content


def make_data(stream: int, data: bytes, *, end: bool = True) -> bytes:
    """Return data in frames of the usual size."""
    parts = [data[start : start + 16_384] for start in range(0, len(data), 16_384)] or [b""]
    last = END_STREAM if end else 0
    frames = [make_frame(DATA, 0, stream, part) for part in parts[:-1]]
    return b"".join([*frames, make_frame(DATA, last, stream, parts[-1])])


@contextlib.contextmanager
def connect(port: int, settings: bytes = b"") -> Iterator[socket.socket]:
    """Open a connection, which ends without regard to what the server still sends."""
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        connection.sendall(PREFACE + make_frame(SETTINGS, 0, 0, settings))
        yield connection


def find_port(server: Server) -> int:
    """Return the server's port for gRPC."""
    from tests.grpc_connection import find_grpc_port

    return find_grpc_port(server)


def flood(make_piece: Callable[[Iterator[int]], bytes]) -> Callable[[Server, float], list[str]]:
    """Return an attack: send pieces until the server hangs up, connect anew, again and again.

    `make_piece` gets the numbers of the streams that are still free.
    """

    def run(server: Server, scale: float) -> list[str]:
        port, end = find_port(server), time.monotonic() + max(SECONDS, 10 * scale)
        while time.monotonic() < end:
            streams = iter(range(1, 1 << 31, 2))
            with contextlib.suppress(OSError), connect(port) as connection:
                while time.monotonic() < end:
                    connection.sendall(make_piece(streams))
        return []

    return run


def open_and_reset(call: str, streams: Iterator[int]) -> bytes:
    """Return calls that are cancelled at once."""
    block, reason = make_headers(call), b"\0\0\0\x08"
    message = make_message(MODEL)
    return b"".join(
        make_frame(HEADERS, END_HEADERS, stream, block)
        + make_data(stream, message)
        + make_frame(RESET, 0, stream, reason)
        for stream, _ in zip(streams, range(500), strict=False)
    )


def repeat(frame: bytes, _: Iterator[int]) -> bytes:
    """Return the same frame many times."""
    return frame * (1 + 65_536 // len(frame))


def continue_headers(streams: Iterator[int]) -> bytes:
    """Return headers without end."""
    stream = next(streams)
    more = make_frame(CONTINUATION, 0, stream, b"\0\1a" + b"\x7f\xff\x01" + b"x" * 16_000)
    return make_frame(HEADERS, 0, stream, make_headers("ServerLive")) + more * 50


def send_tiny_data(streams: Iterator[int]) -> bytes:
    """Return a message in frames of one byte."""
    stream = next(streams)
    head = make_frame(HEADERS, END_HEADERS, stream, make_headers("ModelInfer"))
    head += make_data(stream, make_message(b"", 10_000_000), end=False)
    return head + make_frame(DATA, 0, stream, b"x") * 20_000


def send_padded_data(streams: Iterator[int]) -> bytes:
    """Return a message in frames of one byte, each with as much padding as there may be."""
    stream = next(streams)
    head = make_frame(HEADERS, END_HEADERS, stream, make_headers("ModelInfer"))
    head += make_data(stream, make_message(b"", 10_000_000), end=False)
    return head + make_frame(DATA, PADDED, stream, b"\xfex" + bytes(254)) * 1000


def send_many_fields(streams: Iterator[int]) -> bytes:
    """Return calls with as many parameters in as many tensors as each message may have."""
    block = make_headers("ModelInfer")
    entry = b"\x0a\x01x\x12\x02\x08\x01"
    tensor = (b"\x22" + write_length(entry) + entry) * 120
    output = (b"\x12" + write_length(entry) + entry) * 120
    message = MODEL + (b"\x2a" + write_length(tensor) + tensor) * 17
    message = make_message(message + (b"\x32" + write_length(output) + output) * 17)
    return b"".join(
        make_frame(HEADERS, END_HEADERS, stream, block) + make_data(stream, message)
        for stream, _ in zip(streams, range(20), strict=False)
    )


def send_coded_headers(streams: Iterator[int]) -> bytes:
    """Return calls with long headers in Huffman's code, which takes long to read."""
    size = 9900
    name, length = b"\0\1x", b"\xff" + encode_varint(size - 127)  # 0x80 for the code, and 127
    block = make_headers("ServerLive") + name + length + bytes(size)
    return b"".join(
        make_frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
        for stream, _ in zip(streams, range(32), strict=False)
    )


def announce_too_much(streams: Iterator[int]) -> bytes:
    """Return a call whose message would be too long, with its beginning."""
    stream = next(streams)
    head = make_frame(HEADERS, END_HEADERS, stream, make_headers("ModelInfer"))
    return head + make_data(stream, make_message(b"x" * 60_000, 0xFFFFFFFF), end=False)


def send_short_deadlines(streams: Iterator[int]) -> bytes:
    """Return calls that have a millisecond."""
    block = make_headers("ModelInfer", ("grpc-timeout", "1m"))
    image = b"\x0a\x05image\x12\x05BYTES\x18\x01"
    contents = b"\x42" + write_length(PICTURE) + PICTURE
    tensor = image + b"\x2a" + write_length(contents) + contents
    message = make_message(MODEL + b"\x2a" + write_length(tensor) + tensor)
    return b"".join(
        make_frame(HEADERS, END_HEADERS, stream, block) + make_data(stream, message)
        for stream, _ in zip(streams, range(20), strict=False)
    )


def write_length(content: bytes) -> bytes:
    """Return a length as protocol buffers write it."""
    return encode_varint(len(content))


def encode_varint(value: int) -> bytes:
    """Return a number in parts of seven bits, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def send_garbage(server: Server, scale: float) -> list[str]:
    """Send what is no HTTP/2, from many connections one after the other."""
    port, end = find_port(server), time.monotonic() + max(SECONDS, 10 * scale)
    while time.monotonic() < end:
        start = random.choice([PREFACE, b""])
        with socket.socket() as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(("127.0.0.1", port))
            connection.sendall(start + os.urandom(100_000))
            connection.recv(1000)
    return []


def leave_calls_open(server: Server, scale: float) -> list[str]:
    """Open a hundred calls on each of many connections, and send nothing more."""
    block = make_headers("ModelInfer", ("x", "y" * 1000))
    calls = b"".join(make_frame(HEADERS, END_HEADERS, 2 * n + 1, block) for n in range(100))
    port = find_port(server)
    with contextlib.ExitStack() as stack:
        for _ in range(max(50, round(1000 * scale))):
            with contextlib.suppress(OSError):
                stack.enter_context(connect(port)).sendall(calls)
        time.sleep(1)
    return []


def grow_messages(server: Server, scale: float) -> list[str]:
    """Send most of many messages of a megabyte, and never their end."""
    from tests.grpc_connection import connect as connect_client
    from tests.grpc_connection import frame

    port = find_port(server)
    with contextlib.ExitStack() as stack:
        for _ in range(max(2, round(10 * scale))):
            connection = stack.enter_context(connect_client(port))
            for _ in range(90):
                stream = connection.start("ModelInfer")
                connection.send(stream, frame(b"x" * 900_000, length=1_000_000))
        time.sleep(1)
    return []


def send_tiny_tensors(server: Server, scale: float) -> list[str]:
    """Send messages with a million tensors each."""
    from tests.grpc_connection import connect as connect_client
    from tests.grpc_connection import frame

    message = frame(MODEL + TINY_TENSOR * max(1_000_000, round(16_000_000 * scale)))
    for _ in range(3):
        with connect_client(find_port(server)) as connection:
            stream = connection.start("ModelInfer")
            connection.send(stream, message, end=True)
            answer = connection.wait(stream)
            if answer.status != 3:
                return [f"a million tensors got {answer.status}"]
    return []


def send_numbers(server: Server, scale: float) -> list[str]:
    """Send tensors with a million numbers of one byte each, which take eight in memory."""
    from tests.grpc_connection import connect as connect_client
    from tests.grpc_connection import frame

    numbers = bytes([1]) * 1_000_000
    contents = b"\x1a" + write_length(numbers) + numbers
    tensor = b"\x0a\x05image\x12\x05INT64\x2a" + write_length(contents) + contents
    message = frame(MODEL + (b"\x2a" + write_length(tensor) + tensor) * 16)
    for _ in range(max(2, round(20 * scale))):
        with connect_client(find_port(server)) as connection:
            stream = connection.start("ModelInfer")
            connection.send(stream, message, end=True)
            answer = connection.wait(stream)
            if answer.status != RESOURCE_EXHAUSTED:
                return [f"16 million numbers got {answer.status}"]
    return []


def send_together(server: Server, scale: float) -> list[str]:
    """Send small frames from many connections at once.

    They were used before, so that the system takes 200 kB from each at a time.
    """
    port, block = find_port(server), make_headers("Nowhere")

    def make_call(stream: int, frames: int, frame_bytes: int) -> bytes:
        head = make_frame(HEADERS, END_HEADERS, stream, block)
        head += make_frame(DATA, 0, stream, make_message(bytes(300), 60_000_000))
        return head + make_frame(DATA, 0, stream, bytes(frame_bytes)) * frames

    first, second = make_call(1, 12, 16_000), make_call(3, 900, 256)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(port)) for _ in range(max(500, round(1500 * scale)))]
        for number, connection in enumerate(opened):
            connection.sendall(first)
            if number % 20 == 0:
                time.sleep(0.01)
        time.sleep(1)
        for connection in opened:
            connection.setblocking(False)
        left = dict.fromkeys(opened, memoryview(second))
        end = time.monotonic() + 10
        while left and time.monotonic() < end:
            sent = {
                connection: send_some(connection, unsent) for connection, unsent in left.items()
            }
            left = {connection: unsent for connection, unsent in sent.items() if unsent}
        time.sleep(1)
    return []


def send_some(connection: socket.socket, data: memoryview) -> memoryview:
    """Send as much as the system takes at once. Return what is left: nothing after a hang-up."""
    try:
        return data[connection.send(data) :]
    except BlockingIOError:
        return data
    except ConnectionError:
        return data[:0]


def leave_answers_unread(server: Server, scale: float) -> list[str]:
    """Ask for many answers, and let the server send nothing of them."""
    block, message = make_headers("ModelMetadata"), make_message(MODEL)
    calls = b"".join(
        make_frame(HEADERS, END_HEADERS, 2 * n + 1, block) + make_data(2 * n + 1, message)
        for n in range(100)
    )
    port = find_port(server)
    with contextlib.ExitStack() as stack:
        for _ in range(max(20, round(300 * scale))):
            with contextlib.suppress(OSError):
                stack.enter_context(connect(port, NO_WINDOW)).sendall(calls)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: is_all_taken(server), 60)
            return []
        closed = read_metric(server, "sightglass_connections_closed_total", reason="memory")
        return [] if closed else ["the server kept answers that nobody takes"]


def take_all_connections(server: Server, _: float) -> list[str]:
    """Keep more connections open than the server may have. New ones must be answered."""
    from tests.grpc_connection import connect as connect_client

    port, seen = find_port(server), []
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 100):
            with contextlib.suppress(OSError):
                stack.enter_context(connect(port))
        for _ in range(10):
            with connect_client(port) as connection:
                status = connection.call("ServerLive", b"").status
                if status:
                    seen.append(f"a new connection got {status}")
    return seen


MOST_CONNECTIONS = 200
LISTENING = {"grpc_port": find_free_port}
FEW = LISTENING | {"max_connections": MOST_CONNECTIONS}
HASTY = LISTENING | {"request_timeout_ms": 5000}
FLOODS: dict[str, Callable[[Iterator[int]], bytes]] = {
    "calls reset at once": partial(open_and_reset, "ModelMetadata"),
    "inferences reset at once": partial(open_and_reset, "ModelInfer"),
    "pings": partial(repeat, make_frame(PING, 0, 0, bytes(8))),
    "settings": partial(repeat, make_frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff" * 2000)),
    "empty frames": partial(repeat, make_frame(DATA, 0, 1, b"")),
    "windows": partial(repeat, make_frame(WINDOW, 0, 0, b"\0\0\0\1")),
    "headers without end": continue_headers,
    "a message in single bytes": send_tiny_data,
    "a message in padded bytes": send_padded_data,
    "many fields": send_many_fields,
    "headers in Huffman's code": send_coded_headers,
    "messages over the limit": announce_too_much,
    "deadlines of a millisecond": send_short_deadlines,
}
ATTACKS = (
    (
        *(
            Attack(f"gRPC: {name}", flood(FLOODS[name]), SLACK, settings=LISTENING)
            for name in FLOODS
        ),
        Attack("gRPC: garbage", send_garbage, SLACK, settings=LISTENING),
        Attack("gRPC: calls left open", leave_calls_open, SLACK, settings=LISTENING),
        Attack("gRPC: all connections taken", take_all_connections, SLACK, settings=FEW),
        Attack("gRPC: messages that grow", grow_messages, settings=LISTENING),
        Attack("gRPC: a million tensors", send_tiny_tensors, settings=LISTENING),
        Attack("gRPC: sixteen million numbers", send_numbers, 128 * MEGABYTE, settings=LISTENING),
        Attack("gRPC: small frames from many", send_together, SLACK, settings=LISTENING),
        Attack("gRPC: unread answers", leave_answers_unread, SLACK, settings=HASTY),
    )
    if find_spec("h2")
    else ()
)
