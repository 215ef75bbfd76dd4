"""Sends answers, no faster than the client takes them, and gives up on a client that does not.

What waits here is counted as an answer that nobody has read. This module knows no messages.
"""

import asyncio
from collections.abc import Callable

from h2.errors import ErrorCodes

from service.server.connections import MIN_RATE, SHORT_RATE, SHORT_SECONDS
from service.server.grpc.call import Call, Headers
from service.server.grpc.state import BoundedConnection


class AnswerWriter:
    """Sends the answers of one connection."""

    def __init__(
        self,
        state: BoundedConnection,
        on_wait: Callable[[], None],
        patience: float,
        is_short_of_room: Callable[[], bool],
    ) -> None:
        """`on_wait` is called to send what is written, before it waits for the client."""
        self.may_write = asyncio.Event()  # the transport takes more
        self.may_write.set()
        self.window_changed = asyncio.Event()  # the client takes more, or nothing any more
        self._h2 = state
        self._on_wait = on_wait
        self._patience = patience
        self._is_short_of_room = is_short_of_room
        self._waiting: dict[
            Call, tuple[int, float]
        ] = {}  # bytes sent of the answer, and since when

    async def send(self, call: Call, head: Headers, message: bytes, trailers: Headers) -> None:
        """Send an answer, or its head alone, as fast as the client takes it."""
        stream, since = call.stream_id, asyncio.get_running_loop().time()
        self._h2.send_headers(stream, head, end_stream=not trailers)
        begin = 0
        while begin < len(message):
            size = self._find_room(call)
            if not size:
                self._waiting[call] = begin, since
                self._on_wait()
                await self._wait(call)
                del self._waiting[call]
                if call.is_gone:
                    return
                continue
            self._h2.send_data(stream, message[begin : begin + size])
            begin += size
        if trailers:
            self._h2.send_headers(stream, trailers, end_stream=True)
        if not call.is_ended:  # it need not send the rest
            self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)

    def has_slow_client(self, now: float) -> bool:
        """Return whether the client takes an answer too slowly."""
        is_short = self._is_short_of_room()
        for taken, since in self._waiting.values():
            seconds = now - since
            if seconds > self._patience and taken < MIN_RATE * seconds:
                return True
            if is_short and seconds > SHORT_SECONDS and taken < SHORT_RATE * seconds:
                return True
        return False

    def _find_room(self, call: Call) -> int:
        """Return how many bytes of the answer may be sent now."""
        if not self.may_write.is_set():
            return 0
        window = self._h2.local_flow_control_window(call.stream_id)
        return max(0, min(window, self._h2.max_outbound_frame_size))

    async def _wait(self, call: Call) -> None:
        """Wait until there is room, or the call is gone."""
        while not call.is_gone and not self._find_room(call):
            self.window_changed.clear()
            await (self.window_changed if self.may_write.is_set() else self.may_write).wait()
