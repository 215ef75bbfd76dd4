"""A connection of our own, for clients that are slow, stop half-way or leave."""

import contextlib
import re
import socket
from collections.abc import Iterator

import httpx

from tests.server import PATIENCE, Server
from tests.service.quadrants_model import encode, light


@contextlib.contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    """An open connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        yield connection


def start_post(connection: socket.socket, call: str, length: int | None, *headers: str) -> None:
    """Send the headers of a request whose body has `length` bytes; None is chunked."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {call} HTTP/1.1", "Host: test", size, *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of the next answer, and nothing of what follows it."""
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
    """What comes next, at most so many bytes; it must not be the end."""
    received = connection.recv(most)
    assert received, "the connection was closed"
    return received


def ask_both(server: Server) -> int:
    """Ask two workers until both have answered, on connections that either may take; how often."""
    asked = 0
    seen: set[str] = set()
    while asked < 40 or len(seen) < 2:
        assert asked < 2000, "only one of the workers is ever asked"
        answer = httpx.post(f"{server.url}/predict", content=encode(light(0)), timeout=PATIENCE)
        seen.add(answer.headers["x-request-id"].partition("-")[0])
        asked += 1
    return asked


def count_images(server: Server) -> float:
    """Images in the house now."""
    return read_metric(server, "sightglass_queue_images")


def read_metric(server: Server, name: str, **labels: str) -> float:
    """A metric's value, 0 where it has none yet; of several lines the sum."""
    page = server.client.get("/metrics").text
    values = []
    for line in page.splitlines():
        match = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        if match and all(pair in (match[1] or "") for pair in wanted):
            values.append(float(match[2]))
    return sum(values)
