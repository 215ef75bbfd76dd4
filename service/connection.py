"""One connection before its request is known: how long and how slow the headers may be.

uvicorn sets no end to either, so a client could fill the memory, or hold connections for good,
without ever coming to the front door. Knows nothing of what is asked.
"""

import asyncio
import logging

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.settings import Settings

MAX_HEAD_BYTES = 65_536  # that came without the end of the headers


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's own, with an end to the headers."""

    head_seconds = 10.0
    _head_is_open = True
    _head_began = False  # behind another request, in what is being read
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_began = False
        super().data_received(data)
        if self._head_is_open:
            if not self._head_began:  # else most of it may be the end of a body before
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(f"More than {MAX_HEAD_BYTES} bytes of headers were sent: send fewer.")
            elif self._head_timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_began = not self._head_is_open
        self._head_is_open = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        sentence = f"The headers did not arrive within {self.head_seconds:g} s: send them faster."
        self._head_timer = self.loop.call_later(self.head_seconds, self._refuse, sentence)

    def _stop_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, sentence: str) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self.cycle and not self.cycle.response_complete:  # the next word is an earlier request's
            self.transport.close()
        else:
            self.send_400_response(sentence)


def bound_connections(settings: Settings) -> None:
    """Have uvicorn take this protocol where it is told to choose one, as BentoML does."""
    BoundedProtocol.head_seconds = settings.request_timeout_ms / 1000
    # uvicorn would put a line of its own together for every request, only to drop it.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
