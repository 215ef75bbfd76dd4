"""A connection of our own, for clients that are slow, stop half-way or leave."""

import contextlib
import re
import socket
from collections.abc import Iterator

from tests.server import PATIENCE, Server


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
    """Status, headers (lower case) and body of the next answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += read_some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += read_some(connection)
    return int(first.split()[1]), headers, body


def read_some(connection: socket.socket) -> bytes:
    """What comes next; it must not be the end."""
    received = connection.recv(65536)
    assert received, "the connection was closed"
    return received


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
