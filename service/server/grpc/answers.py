"""Sends answers, no faster than the client takes them, and gives up on a client that does not.

A long answer is sent in pieces, which take turns with the work of all other connections. What has
not been sent stays where it is, and is counted as an answer that nobody has read. This module knows
no messages.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from service.server.connections import MIN_RATE, SHORT_RATE, SHORT_SECONDS
from service.server.grpc.call import GRPC_STATUS, OK, PREFIX, Call, Headers
from service.server.grpc.state import BoundedConnection
from service.server.turns import Turns

PIECE_BYTES = 65_536  # of an answer, sent in one turn
TRAILERS: Headers = [(GRPC_STATUS, OK)]


class Sending:
    """A message that is being sent, after its prefix. The two are never copied together."""

    def __init__(self, call: Call, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self.since = loop.time()
        self.sent = 0
        self.left = PREFIX.size + len(message)
        self.done: asyncio.Future[None] = loop.create_future()
        self._prefix = PREFIX.pack(0, len(message))
        self._message = memoryview(message)

    def take(self, size: int) -> bytes | memoryview:
        """Return the next `size` bytes."""
        begin, end = (max(0, at - PREFIX.size) for at in (self.sent, self.sent + size))
        prefix, piece = self._prefix[self.sent : self.sent + size], self._message[begin:end]
        self.sent += size
        self.left -= size
        return prefix + piece if prefix else piece


class AnswerWriter:
    """Sends the answers of one connection."""

    def __init__(
        self,
        state: BoundedConnection,
        flush: Callable[[], None],
        on_wait: Callable[[], None],
        turns: Turns,
        patience: float,
        is_short_of_room: Callable[[], bool],
    ) -> None:
        """`flush` sends what `state` has to send. `on_wait` is called to wait for the client."""
        self._h2 = state
        self._flush = flush
        self._on_wait = on_wait
        self._turns = turns
        self._patience = patience
        self._is_short_of_room = is_short_of_room
        self._waiting: dict[Sending, None] = {}  # for the client, in their order
        self._may_write = asyncio.Event()  # the transport takes more
        self._may_write.set()

    def pause(self) -> None:
        """Send nothing for now: the transport holds enough."""
        self._may_write.clear()

    def resume(self) -> None:
        """Go on: the transport takes more."""
        self._may_write.set()
        self.wake()

    def wake(self) -> None:
        """Go on with all that waits: the client takes more, or a call is gone."""
        waiting, self._waiting = self._waiting, {}
        for sending in waiting:
            self._turns.add(partial(self._take_turn, sending))

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        await self._may_write.wait()

    async def send(self, call: Call, head: Headers, message: bytes | None) -> None:
        """Send an answer, or its head alone, as fast as the client takes it."""
        stream = call.stream_id
        self._h2.send_headers(stream, head, end_stream=message is None)
        if message is not None:
            await self._send_message(Sending(call, message))
            if call.is_gone:
                return
            self._h2.send_headers(stream, TRAILERS, end_stream=True)
        if not call.is_ended:  # it need not send the rest
            self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)

    async def _send_message(self, sending: Sending) -> None:
        self._send_piece(sending)
        if sending.left:
            self._take_turn(sending)
            try:
                await sending.done
            finally:
                self._waiting.pop(sending, None)

    def has_slow_client(self, now: float) -> bool:
        """Return whether the client takes an answer too slowly."""
        is_short = self._is_short_of_room()
        for sending in self._waiting:
            seconds, taken = now - sending.since, sending.sent
            if seconds > self._patience and taken < MIN_RATE * seconds:
                return True
            if is_short and seconds > SHORT_SECONDS and taken < SHORT_RATE * seconds:
                return True
        return False

    def _take_turn(self, sending: Sending) -> None:
        """Send a piece, and wait for another turn or for the client if more is left."""
        if sending.done.done():
            return
        try:
            self._continue(sending)
        except H2Error as exc:
            sending.done.set_exception(exc)

    def _continue(self, sending: Sending) -> None:
        if not sending.call.is_gone:
            self._send_piece(sending)
        if sending.call.is_gone or not sending.left:
            sending.done.set_result(None)
            return
        self._flush()
        if self._find_room(sending.call):
            self._turns.add(partial(self._take_turn, sending))
        else:
            self._waiting[sending] = None
            self._on_wait()

    def _send_piece(self, sending: Sending) -> None:
        """Send some of a body, as far as the client takes it."""
        piece = min(sending.left, PIECE_BYTES)
        while piece and (room := self._find_room(sending.call)):
            size = min(room, piece)
            self._h2.send_data(sending.call.stream_id, sending.take(size))
            piece -= size

    def _find_room(self, call: Call) -> int:
        """Return how many bytes of the answer may be sent now."""
        if not self._may_write.is_set():
            return 0
        window = self._h2.local_flow_control_window(call.stream_id)
        return max(0, min(window, self._h2.max_outbound_frame_size))
