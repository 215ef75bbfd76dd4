"""Raw connections for clients that are slow, stop in the middle or disconnect."""

import contextlib
import re
import socket
from collections.abc import Iterator

import httpx

from tests.server import PATIENCE, Server
from tests.service.quadrants_model import encode, light


@contextlib.contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    """Open a connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        yield connection


def start_post(connection: socket.socket, call: str, length: int | None, *headers: str) -> None:
    """Send the headers of a request. `length` is the body's; None means chunked."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {call} HTTP/1.1", "Host: test", size, *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read exactly one response: status, headers (lower case) and body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_some(connection, 1)
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length, body = int(headers["content-length"]), b""
    while len(body) < length:
        body += read_some(connection, length - len(body))
    return int(first.split()[1]), headers, body


def read_some(connection: socket.socket, most: int) -> bytes:
    """Read at most `most` bytes. The connection must not be closed."""
    received = connection.recv(most)
    assert received, "the connection was closed"
    return received


def ask_both(server: Server) -> int:
    """Send requests until both workers have answered. Return how many were sent."""
    sent = 0
    seen: set[str] = set()
    while sent < 40 or len(seen) < 2:
        assert sent < 2000, "only one of the workers is ever asked"
        answer = httpx.post(f"{server.url}/predict", content=encode(light(0)), timeout=PATIENCE)
        seen.add(answer.headers["x-request-id"].partition("-")[0])
        sent += 1
    return sent


def count_images(server: Server) -> float:
    """Return how many images the server holds now."""
    return read_metric(server, "sightglass_queue_images")


def read_metric(server: Server, name: str, **labels: str) -> float:
    """Return a metric's value, the sum of its series. It is 0 if there are none."""
    page = server.client.get("/metrics").text
    values = []
    for line in page.splitlines():
        match = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        if match and all(pair in (match[1] or "") for pair in wanted):
            values.append(float(match[2]))
    return sum(values)
