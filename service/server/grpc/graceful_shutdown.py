"""How a connection ends without losing a call: its client is asked to open another one.

A first GOAWAY says that the end is near. What is on its way then is still taken. A ping that the
client answers tells when that has come; then a second one names the last call.
"""

import asyncio
from collections.abc import Callable

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from service.server.grpc.state import BoundedConnection

PATIENCE_SECONDS = 1.0  # for the answer to the ping
ANY_STREAM = 2**31 - 1
PING = b"last one"


class GracefulShutdown:
    """The end of one connection."""

    def __init__(
        self,
        state: BoundedConnection,
        flush: Callable[[], None],
        write: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        """`flush` sends what `state` has to send; `on_end` is called when no call is taken."""
        self.takes_calls = True
        self._is_begun = False
        self._h2 = state
        self._flush = flush
        self._write = write
        self._on_end = on_end

    def begin(self) -> None:
        """Ask the client to open another connection."""
        if not self._is_begun:
            self._is_begun = True
            self._send(ANY_STREAM)
            self._h2.ping(PING)
            self._flush()
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self.end)

    def end(self) -> None:
        """Take no more calls, if the client was asked before."""
        if self._is_begun and self.takes_calls:
            self.takes_calls = False
            self._send(self._h2.highest_inbound_stream_id)
            self._on_end()

    def _send(self, last_stream: int) -> None:
        """Send a GOAWAY. h2 itself would then send nothing more."""
        self._flush()
        self._write(GoAwayFrame(0, last_stream, ErrorCodes.NO_ERROR).serialize())
