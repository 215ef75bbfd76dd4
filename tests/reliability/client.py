"""A load generator that uses little CPU: it sends prepared bytes and reads the answers.

In an open loop, requests leave at their scheduled times, whether or not others were answered.
Waiting times count from the scheduled time. The module knows HTTP/1.1 with Content-Length, but not
the content of the requests.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from time import perf_counter, process_time
from typing import NamedTuple

NO_ANSWER = 0  # the status of a request without a complete answer
HEAD_END = b"\r\n\r\n"


class Reply(NamedTuple):
    """The outcome of one request."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent_at: float  # scheduled time, in perf_counter's seconds
    seconds: float  # until the answer's last byte
    fault: str = ""  # why there is no answer


class Connection(asyncio.Protocol):
    """A persistent connection with one request at a time."""

    def __init__(self, patience: float, keep: Callable[["Connection"], None]) -> None:
        self._patience = patience
        self._keep = keep
        self._answer: asyncio.Future[Reply] | None = None
        self._received = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None  # status and headers
        self._body = slice(0)  # its position in the received bytes, once the head is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def ask(self, request: bytes, sent_at: float, answer: "asyncio.Future[Reply]") -> None:
        """Send a request. Its reply goes to `answer`, also if it failed."""
        self._answer, self._sent_at = answer, sent_at
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._patience, self._end, TimeoutError.__name__)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            if self._head is None and (end := self._received.find(HEAD_END)) >= 0:
                self._head = read_head(bytes(self._received[:end]))
                start = end + len(HEAD_END)
                self._body = slice(start, start + read_length(self._head[1]))
        except (IndexError, ValueError) as error:
            self._end(type(error).__name__)
        if self._head and len(self._received) >= self._body.stop:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(type(exc or EOFError()).__name__)

    def _end(self, fault: str = "") -> None:
        """Deliver the answer or the reason for its absence. Keep the connection if possible."""
        if self._answer is None:  # already ended
            self.transport.close()
            return
        answer, self._answer = self._answer, None
        self._timer.cancel()
        status, headers = (NO_ANSWER, {}) if fault or not self._head else self._head
        body = b"" if fault else bytes(self._received[self._body])
        keeps = not fault and not answer.done() and headers.get("connection") != "close"
        if not answer.done():  # otherwise nothing waits for it
            seconds = perf_counter() - self._sent_at
            answer.set_result(Reply(status, headers, body, self._sent_at, seconds, fault))
        self._head = None
        self._received.clear()
        if keeps:
            self._keep(self)
        else:
            self.transport.close()


class Client:
    """Opens as many persistent connections as there are concurrent requests."""

    def __init__(self, port: int, patience: float = 30) -> None:
        self._port = port
        self._patience = patience
        self._idle: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()

    async def send(self, request: bytes) -> Reply:
        """Send one request without any retry."""
        return await self.post(request, perf_counter())

    def post(self, request: bytes, sent_at: float) -> "asyncio.Future[Reply]":
        """Send at once if a connection is free. Waiting times count from `sent_at`."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                connection.ask(request, sent_at, answer)
                return answer
        task = asyncio.create_task(self._connect(request, sent_at, answer))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return answer

    async def _connect(
        self, request: bytes, sent_at: float, answer: "asyncio.Future[Reply]"
    ) -> None:
        def make() -> Connection:
            return Connection(self._patience, self._idle.append)

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience):
                _, connection = await loop.create_connection(make, "127.0.0.1", self._port)
        except OSError as error:  # includes TimeoutError
            seconds = perf_counter() - sent_at
            if not answer.done():
                name = type(error).__name__
                answer.set_result(Reply(NO_ANSWER, {}, b"", sent_at, seconds, name))
            return
        connection.ask(request, sent_at, answer)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()


@contextlib.asynccontextmanager
async def connect(port: int, patience: float = 30) -> AsyncIterator[Client]:
    """Return a client, and close its connections at the end."""
    client = Client(port, patience)
    try:
        yield client
    finally:
        client.close()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (lower case) and body of the next answer.

    Raises:
        EOFError: it broke off.
        ValueError: it is none.
    """
    status, headers = read_head(await reader.readuntil(HEAD_END))
    return status, headers, await reader.readexactly(read_length(headers))


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers (lower case).

    Raises:
        ValueError: it is none.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}


def read_length(headers: Mapping[str, str]) -> int:
    """Return the length of the body."""
    return int(headers.get("content-length", 0))


class Load(NamedTuple):
    """The outcome of a load, and the CPU time of the client itself."""

    replies: list[Reply]
    seconds: float  # during which requests were sent
    client_share: float  # of a core

    def rate(self, status: int = 200) -> float:
        """Return the answers per second with that status."""
        return sum(reply.status == status for reply in self.replies) / self.seconds


async def offer(client: Client, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
    """Send `rate` requests per second in an open loop. Return when all are answered."""
    started, busy = perf_counter(), process_time()
    answers: list[asyncio.Future[Reply]] = []
    for number in range(round(rate * seconds)):
        due = started + number / rate
        if (pause := due - perf_counter()) > 0:
            await asyncio.sleep(pause)
        answers.append(client.post(next(requests), due))
    share = (process_time() - busy) / (perf_counter() - started)
    return Load(list(await asyncio.gather(*answers)), seconds, share)


async def saturate(client: Client, requests: Iterator[bytes], users: int, seconds: float) -> Load:
    """Run a closed loop: each user sends its next request after the last answer."""
    started, busy = perf_counter(), process_time()
    replies: list[Reply] = []

    async def ask() -> None:
        while perf_counter() < started + seconds:
            replies.append(await client.send(next(requests)))

    await asyncio.gather(*(ask() for _ in range(users)))
    lasted = perf_counter() - started
    return Load(replies, lasted, (process_time() - busy) / lasted)
