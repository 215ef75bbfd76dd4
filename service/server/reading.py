"""Bounds how much is read from all connections before the event loop goes on with other things.

When thousands of connections have sent something, the loop would read them all in one turn. So once
that has taken a few milliseconds, reading stops, and goes on with a few connections in each turn.
This module knows no protocols.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from time import perf_counter
from typing import Protocol

READING_SECONDS = 0.01  # of one turn of the loop, after which the others are read later
CONNECTIONS_PER_TURN = 64


class Readable(Protocol):
    """What this module needs of a connection."""

    transport: asyncio.Transport

    def wants_reading(self) -> bool:
        """Return whether it has not stopped reading itself."""


class Reading:
    """Whether the connections of one worker are read."""

    def __init__(self, connections: Collection[Readable]) -> None:
        self._connections = connections
        self._stopped: deque[Readable] = deque()
        self._end = 0.0  # of this turn's reading
        self._is_scheduled = False  # that the turn ends

    def note(self) -> None:
        """Note that something was received. Stop reading if this turn has taken long."""
        now = perf_counter()
        if not self._is_scheduled:
            self._schedule(now)
        elif now > self._end and not self._stopped:
            self._stop()

    def _schedule(self, now: float) -> None:
        self._is_scheduled = True
        self._end = now + READING_SECONDS
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _stop(self) -> None:
        for connection in self._connections:
            if connection.transport.is_reading():
                connection.transport.pause_reading()
                self._stopped.append(connection)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        for _ in range(min(CONNECTIONS_PER_TURN, len(self._stopped))):
            connection = self._stopped.popleft()
            if not connection.transport.is_closing() and connection.wants_reading():
                connection.transport.resume_reading()
        if self._stopped:
            self._schedule(perf_counter())
