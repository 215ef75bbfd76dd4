"""Whether connections are read: what thousands of clients send at once is received part by part.

Once that has taken a few milliseconds, or too much of it waits to be parsed, reading stops, and
goes on with a few connections in each turn. This module knows no protocols.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from time import perf_counter
from typing import Protocol

READING_SECONDS = 0.01  # of one turn of the loop, after which the others are read later
CONNECTIONS_PER_TURN = 64
MAX_WAITING_BYTES = 8_388_608  # that were received and are not parsed


class Readable(Protocol):
    """What this module needs of a connection."""

    transport: asyncio.Transport
    has_received: bool  # anything

    def wants_reading(self) -> bool:
        """Return whether it has not stopped reading itself."""


class Reading:
    """Whether the connections of one worker are read."""

    def __init__(self, connections: Collection[Readable]) -> None:
        self._connections = connections
        self._stopped: OrderedDict[Readable, None] = OrderedDict()
        self._has_stopped = False  # in this turn
        self._waiting_bytes = 0
        self._end = 0.0  # of this turn's reading
        self._is_scheduled = False  # that the turn ends

    def wait(self, size: int) -> None:
        """Count bytes that wait for their connection's turn to be parsed; negative: that did."""
        self._waiting_bytes += size

    def is_full(self) -> bool:
        """Return whether too much waits to be parsed."""
        return self._waiting_bytes > MAX_WAITING_BYTES

    def note(self) -> None:
        """Note that something was received. Stop reading if this turn took long, or it is full."""
        now = perf_counter()
        if not self._is_scheduled:
            self._schedule(now)
        if not self._has_stopped and (now > self._end or self.is_full()):
            self._stop()

    def forget(self, connection: Readable) -> None:
        """Forget a connection that was lost."""
        self._stopped.pop(connection, None)

    def _schedule(self, now: float) -> None:
        self._is_scheduled = True
        self._end = now + READING_SECONDS
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _stop(self) -> None:
        """Stop all. While it is full, a new connection is read once: it may bring a probe."""
        self._has_stopped = True
        is_full = self.is_full()
        for connection in self._connections:
            if connection.transport.is_reading() and (connection.has_received or not is_full):
                connection.transport.pause_reading()
                self._stopped[connection] = None

    def _end_turn(self) -> None:
        self._is_scheduled = self._has_stopped = False
        if not self.is_full():
            self._resume()
        if self._stopped:
            self._schedule(perf_counter())

    def _resume(self) -> None:
        for _ in range(min(CONNECTIONS_PER_TURN, len(self._stopped))):
            connection, _ = self._stopped.popitem(last=False)
            if not connection.transport.is_closing() and connection.wants_reading():
                connection.transport.resume_reading()
