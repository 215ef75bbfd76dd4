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
        self._stopped_new: OrderedDict[Readable, None] = OrderedDict()  # that received nothing yet
        self._has_stopped = self._has_stopped_new = False  # in this turn
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
        if now > self._end or self._is_overfull():
            self._stop(with_new=True)
        elif self.is_full():
            self._stop(with_new=False)

    def forget(self, connection: Readable) -> None:
        """Forget a connection that was lost."""
        self._stopped.pop(connection, None)
        self._stopped_new.pop(connection, None)

    def _schedule(self, now: float) -> None:
        self._is_scheduled = True
        self._end = now + READING_SECONDS
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _stop(self, *, with_new: bool) -> None:
        """Stop all, once in a turn; new ones, which may bring a probe, last. They resume first."""
        if self._has_stopped_new or (self._has_stopped and not with_new):
            return
        self._has_stopped, self._has_stopped_new = True, with_new
        for connection in self._connections:
            if connection.transport.is_reading() and (connection.has_received or with_new):
                connection.transport.pause_reading()
                stopped = self._stopped if connection.has_received else self._stopped_new
                stopped[connection] = None

    def _end_turn(self) -> None:
        self._is_scheduled = self._has_stopped = self._has_stopped_new = False
        if not self._is_overfull():
            self._resume(self._stopped_new)
        if not (self.is_full() or self._stopped_new):
            self._resume(self._stopped)
        if self._stopped or self._stopped_new:
            self._schedule(perf_counter())

    def _is_overfull(self) -> bool:
        return self._waiting_bytes > 2 * MAX_WAITING_BYTES

    def _resume(self, stopped: OrderedDict[Readable, None]) -> None:
        for _ in range(min(CONNECTIONS_PER_TURN, len(stopped))):
            connection, _ = stopped.popitem(last=False)
            if not connection.transport.is_closing() and connection.wants_reading():
                connection.transport.resume_reading()
