"""The open calls of one connection: when each starts, and what is left of it at the end."""

import asyncio
from collections.abc import Callable
from functools import partial

from starlette.types import ASGIApp

from service.errors import ApiError
from service.server.grpc.call import Call, CallTransport, Headers
from service.server.turns import Turns


class Calls:
    """The calls by their streams."""

    def __init__(
        self,
        transport: CallTransport,
        application: ASGIApp,
        timeout_seconds: float,
        turns: Turns,
        on_end: Callable[[Call], None],
    ) -> None:
        """`on_end` is called when a call is over, whether it was answered or not."""
        self._transport = transport
        self._application = application
        self._timeout_seconds = timeout_seconds
        self._turns = turns
        self._on_end = on_end
        self._open: dict[int, Call] = {}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, stream: int | None) -> Call | None:
        """Return the call of a stream, if it is open."""
        return self._open.get(stream) if stream else None

    def open(self, stream: int, headers: Headers, fault: Callable[[], ApiError] | None) -> None:
        """Begin a call. It starts when the length of its message is known."""
        call = Call(self._transport, stream, headers, self._timeout_seconds, fault)
        self._open[stream] = call
        expire = partial(self._turns.add, partial(self._expire, call))  # many may end together
        call.timer = asyncio.get_running_loop().call_at(call.deadline, expire)

    def start_if_ready(self, call: Call) -> None:
        """Start a call if it has not started and enough of it has come."""
        if call.task is None and call.is_ready():
            self._start(call)

    def lose(self, call: Call) -> None:
        """End a call whose client does not wait for it any more."""
        call.lose()
        if call.task is None:
            self._end(call)

    def lose_all(self) -> None:
        """End all calls: the connection is lost."""
        for call in list(self._open.values()):
            self.lose(call)

    def wait_for_client(self) -> bool:
        """Return whether all calls wait for the client."""
        return all(call.waits_for_client() for call in self._open.values())

    def count_bytes(self) -> int:
        """Return the bytes of calls that wait for the client."""
        return sum(call.held_bytes for call in self._open.values() if call.waits_for_client())

    def _start(self, call: Call) -> None:
        if call.timer:
            call.timer.cancel()
        call.task = asyncio.get_running_loop().create_task(call.run(self._application))
        call.task.add_done_callback(partial(self._finish, call))

    def _expire(self, call: Call) -> None:
        if call.task is None and not call.is_gone:
            call.expire()
            self._start(call)

    def _finish(self, call: Call, _: asyncio.Task[None]) -> None:
        self._end(call)

    def _end(self, call: Call) -> None:
        if call.timer:
            call.timer.cancel()
        call.return_window()
        self._open.pop(call.stream_id, None)
        self._on_end(call)
