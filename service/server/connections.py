"""The open connections of a worker: how many, how much memory they hold, how fast they are read.

If there are too many, the one that has waited longest for its client is closed. An answer that its
client does not take is not kept for ever. This module knows transports. It knows no HTTP.
"""

import asyncio
import heapq
import socket
import struct
import sys
from collections.abc import Callable
from operator import itemgetter
from typing import Protocol

from service.server.reading import Reading
from service.settings import AUTO, Settings
from service.telemetry import metrics

SPARE_DESCRIPTORS = 64  # for files, pipes and the event loop
WINDOWS_DESCRIPTORS = 8192  # Windows itself has no limit; this is the most of its C library
RESERVED = 8  # of the connections: for probes, while all others are busy
MAX_HELD_BYTES = 16_777_216  # of unfinished headers, queued requests and small unread answers
UNCHECKED_BYTES = MAX_HELD_BYTES // 16  # asking all connections takes long
SMALL_BYTES = 8192  # held by one connection: a usual request with its headers
SWEEP_SECONDS = 0.5
HIGH_WATER_BYTES = 16_384  # of an answer in the transport: with more, sending waits
MIN_RATE = 1024  # bytes per second, at which a client must take its answer
SHORT_RATE = 262_144  # the same, while room is short
SHORT_SECONDS = 1.0  # over which that rate is measured
BYTES_ACKED = 120  # offset in Linux's struct tcp_info


class Connection(Protocol):
    """What this module needs of a connection."""

    transport: asyncio.Transport
    held_bytes: int
    has_received: bool

    def waits_since(self) -> float | None:
        """Return since when the next thing has to come from the client; None if from us."""

    def is_unfinished(self) -> bool:
        """Return whether it holds bytes outside of any request that was admitted."""

    def wants_reading(self) -> bool:
        """Return whether it has not stopped reading itself."""

    def discard(self) -> None:
        """Forget these bytes at once. The connection is being aborted."""


class Connections:
    """All connections of one worker."""

    def __init__(self, settings: Settings, is_short_of_room: Callable[[], bool]) -> None:
        """`is_short_of_room` says whether unread answers hold too much memory."""
        self._limit = (
            max(count_descriptors() - SPARE_DESCRIPTORS, 2 * RESERVED)
            if settings.max_connections == AUTO
            else settings.max_connections
        )
        self._patience = settings.request_timeout_ms / 1000
        self._is_short_of_room = is_short_of_room
        self._open: dict[Connection, None] = {}  # a dictionary keeps the order
        self.reading = Reading(self._open)
        self._reserved: dict[Connection, None] = {}
        self._holding: dict[Connection, None] = {}
        self._holding_much: dict[Connection, None] = {}  # those of them with more than is usual
        self._held_bytes = 0
        self._unchecked_bytes = 0  # held since all were asked whether they still hold them
        self._taken: dict[Connection, tuple[float, int]] = {}  # time, and bytes taken until then

    def add(self, connection: Connection) -> bool:
        """Add a new connection. Return whether it is reserved for probes."""
        is_reserved = len(self._open) >= self._limit - RESERVED and not self._close_oldest()
        if is_reserved:
            if len(self._reserved) >= RESERVED:
                self._close(next(iter(self._reserved)))
            self._reserved[connection] = None
        self._open[connection] = None
        return is_reserved

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was lost or is to be."""
        self._open.pop(connection, None)
        self._reserved.pop(connection, None)
        self._taken.pop(connection, None)
        self.reading.forget(connection)
        self.free(connection)

    def hold(self, connection: Connection, size: int) -> None:
        """Count bytes that a connection holds outside of any request that was admitted.

        If they are too many, the connection that has held them longest is closed: one that holds
        much, as long as there is one, so that a usual request may wait for its turn.
        """
        self._holding[connection] = None
        connection.held_bytes += size
        if connection.held_bytes > SMALL_BYTES:
            self._holding_much[connection] = None
        else:
            self._holding_much.pop(connection, None)
        self._held_bytes += size
        self._unchecked_bytes += size
        if self._held_bytes > MAX_HELD_BYTES and self._unchecked_bytes > UNCHECKED_BYTES:
            self._free_finished()
        while self._held_bytes > MAX_HELD_BYTES:
            oldest = next(iter(self._holding_much or self._holding))
            if oldest.is_unfinished():
                self.abort(oldest, "memory")
            else:
                self.free(oldest)

    def free(self, connection: Connection) -> None:
        """Count these bytes as free again."""
        self._held_bytes -= connection.held_bytes
        connection.held_bytes = 0
        self._holding.pop(connection, None)
        self._holding_much.pop(connection, None)

    async def watch(self) -> None:
        """Look after unread answers until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(loop.time())

    def sweep(self, now: float) -> None:
        """Abort connections whose clients take their answers too slowly."""
        self._free_finished()
        slow: list[tuple[float, Connection]] = []
        unread = 0
        for connection in list(self._open):
            unsent = connection.transport.get_write_buffer_size()
            if not unsent:
                self._taken.pop(connection, None)
                continue
            unread += min(unsent, HIGH_WATER_BYTES)  # what is more is counted by admission
            taken = count_taken_bytes(connection.transport)
            if taken is None:
                continue
            since, before = self._taken.setdefault(connection, (now, taken))
            seconds = now - since
            if seconds >= self._patience:
                if taken - before < MIN_RATE * seconds:
                    self.abort(connection, "unread")
                else:
                    self._taken[connection] = now, taken
            elif seconds >= SHORT_SECONDS and taken - before < SHORT_RATE * seconds:
                slow.append(((taken - before) / seconds, connection))
        if slow and (unread > MAX_HELD_BYTES or self._is_short_of_room()):
            slow.sort(key=lambda entry: entry[0])
            for _, connection in slow[: 1 + len(slow) // 10]:
                self.abort(connection, "unread")

    def abort(self, connection: Connection, reason: str) -> None:
        """End a connection at once, and count why."""
        metrics.CLOSED.labels(reason).inc()
        self.remove(connection)
        connection.discard()
        connection.transport.abort()

    def _close_oldest(self) -> bool:
        """Close those that have waited longest for their clients. Return whether there is one.

        The loop's clock stands still while it accepts several, so the order in which they came
        decides between equal times.
        """
        waiting = [
            (since, connection)
            for connection in self._open
            if (since := connection.waits_since()) is not None
        ]
        count = 1 + len(self._open) // 64
        for _, connection in heapq.nsmallest(count, waiting, key=itemgetter(0)):
            self._close(connection)
        return bool(waiting)

    def _close(self, connection: Connection) -> None:
        if connection.transport.get_write_buffer_size():  # its client does not read
            self.abort(connection, "full")
        else:
            metrics.CLOSED.labels("full").inc()
            self.remove(connection)
            connection.transport.close()

    def _free_finished(self) -> None:
        self._unchecked_bytes = 0
        for connection in list(self._holding):
            if not connection.is_unfinished():
                self.free(connection)


def count_descriptors() -> int:
    """Return how many files and connections this process may open."""
    if sys.platform == "win32":
        return WINDOWS_DESCRIPTORS
    import resource  # exists on Unix only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def count_taken_bytes(transport: asyncio.BaseTransport) -> int | None:
    """Return how many bytes the client's system has received on this connection.

    The transport's own buffer is too coarse: the kernel takes megabytes from it at a time. The
    result is None where the kernel does not say it: only Linux does.
    """
    if sys.platform != "linux":
        return None
    connected: socket.socket = transport.get_extra_info("socket")
    info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
    if len(info) < BYTES_ACKED + 8:
        return None
    acked: int = struct.unpack_from("Q", info, BYTES_ACKED)[0]
    return acked
