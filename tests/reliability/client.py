"""A client that offers load without being one: prepared bytes out, answers in, hardly any CPU.

Open loop: requests leave at their times whether or not others were answered, and waits are counted
from those times. Knows HTTP/1.1 with Content-Length, and nothing of what is sent.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from time import perf_counter, process_time
from typing import NamedTuple

NO_ANSWER = 0  # the status of a request that was not answered as a whole


class Reply(NamedTuple):
    """What became of one request."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent_at: float  # perf_counter's seconds, when it was to leave
    seconds: float  # until the answer's last byte
    fault: str = ""  # why there is no answer


class Client:
    """As many kept connections as there are requests at a time."""

    def __init__(self, port: int, patience: float = 30) -> None:
        self._port = port
        self._patience = patience
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, request: bytes, sent_at: float | None = None) -> Reply:
        """Send one request; no retry is made, whatever happens."""
        sent_at = perf_counter() if sent_at is None else sent_at
        writer = None
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await self._connect()
                writer.write(request)
                status, headers, body = await read_reply(reader)
        except (OSError, EOFError, ValueError, TimeoutError) as fault:
            if writer:
                writer.close()
            lasted = perf_counter() - sent_at
            return Reply(NO_ANSWER, {}, b"", sent_at, lasted, type(fault).__name__)
        if headers.get("connection", "") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Reply(status, headers, body, sent_at, perf_counter() - sent_at)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


@contextlib.asynccontextmanager
async def connect(port: int, patience: float = 30) -> AsyncIterator[Client]:
    """A client that closes its connections."""
    client = Client(port, patience)
    try:
        yield client
    finally:
        client.close()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of the next answer.

    Raises:
        EOFError: it broke off.
        ValueError: it is none.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, body


class Load(NamedTuple):
    """What became of a load, and what the client itself took."""

    replies: list[Reply]
    seconds: float  # during which requests left
    client_share: float  # of a core

    def rate(self, status: int = 200) -> float:
        """Answers a second of that status."""
        return sum(reply.status == status for reply in self.replies) / self.seconds


async def offer(client: Client, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
    """Open loop: `rate` requests a second for so many seconds; returns when all are answered."""
    started, busy = perf_counter(), process_time()
    tasks: list[asyncio.Task[Reply]] = []
    for number in range(round(rate * seconds)):
        due = started + number / rate
        if (pause := due - perf_counter()) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(client.send(next(requests), due)))
    share = (process_time() - busy) / (perf_counter() - started)
    return Load(list(await asyncio.gather(*tasks)), seconds, share)


async def saturate(client: Client, requests: Iterator[bytes], users: int, seconds: float) -> Load:
    """Closed loop: so many users, each with its next request once the last is answered."""
    started, busy = perf_counter(), process_time()
    replies: list[Reply] = []

    async def ask() -> None:
        while perf_counter() < started + seconds:
            replies.append(await client.send(next(requests)))

    await asyncio.gather(*(ask() for _ in range(users)))
    lasted = perf_counter() - started
    return Load(replies, lasted, (process_time() - busy) / lasted)
