"""A raw HTTP/2 connection for gRPC calls that no stock client makes. Needs the package h2."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import psutil
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from tests.server import PATIENCE, Server

SERVICE = "/inference.GRPCInferenceService"


@dataclass
class Answer:
    """What has come of one answer."""

    headers: dict[str, str] = field(default_factory=dict)  # with the trailers
    message: bytes = b""
    is_over: bool = False

    @property
    def status(self) -> int:
        """The code of gRPC."""
        return int(self.headers["grpc-status"])

    @property
    def sentence(self) -> str:
        """What was wrong."""
        return unquote(self.headers.get("grpc-message", ""))


class GrpcConnection:
    """A connection on which calls are made piece by piece."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.is_closed = False
        self.answers: dict[int, Answer] = {}
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.socket.sendall(self.h2.data_to_send())

    def start(self, call: str, *fields: tuple[str, str]) -> int:
        """Send the headers of a call. Return the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"{SERVICE}/{call}"),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self.h2.send_headers(stream, headers + list(fields))
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> int:
        """Send some of a message as far as the server takes it. Return how much that was."""
        sent = 0
        while sent < len(data):
            size = min(
                self.h2.local_flow_control_window(stream),
                self.h2.max_outbound_frame_size,
                len(data) - sent,
            )
            if size > 0:
                self.h2.send_data(stream, data[sent : sent + size])
                sent += size
                self.flush()
            elif not self.receive() or self.answers[stream].is_over:
                return sent
        if end:
            self.h2.end_stream(stream)
            self.flush()
        return sent

    def receive(self, *, takes: bool = True) -> bool:
        """Read once. Return whether something came. `takes`: let the server send more then."""
        try:
            received = self.socket.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            return False
        if not received:
            self.is_closed = True
            return False
        try:
            events = self.h2.receive_data(received)
        except ProtocolError:  # h2 takes nothing after a farewell
            self.is_closed = True
            return False
        for event in events:
            self._handle(event, takes)
        with contextlib.suppress(OSError):
            self.flush()
        return True

    def wait(self, stream: int) -> Answer:
        """Read until an answer is complete."""
        answer = self.answers[stream]
        while not answer.is_over:
            assert self.receive(), f"no answer, only {answer}"
        return answer

    def call(self, call: str, message: bytes, *fields: tuple[str, str]) -> Answer:
        """Make one call, and return its answer."""
        stream = self.start(call, *fields)
        self.send(stream, frame(message), end=True)
        return self.wait(stream)

    def _handle(self, event: Event, takes: bool) -> None:
        if isinstance(event, ConnectionTerminated):
            self.is_closed = True
        stream = getattr(event, "stream_id", None)
        if stream not in self.answers:
            return
        answer = self.answers[stream]
        if isinstance(event, ResponseReceived | TrailersReceived):
            answer.headers |= dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            answer.message += event.data
            if takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, StreamEnded | StreamReset):
            answer.is_over = True


def frame(message: bytes, *, length: int | None = None, flag: int = 0) -> bytes:
    """Return a message with the five bytes that gRPC puts before it."""
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


@contextlib.contextmanager
def connect(port: int) -> Iterator[GrpcConnection]:
    """Open a connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connected:
        yield GrpcConnection(connected)


def find_grpc_port(server: Server) -> int:
    """Return the port on which a worker listens beside the one for HTTP."""
    listening = {
        connection.laddr.port
        for connection in psutil.Process(server.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    [port] = listening - {server.port}
    return int(port)
