"""uvicorn's HTTP protocol, with limits for the size and the time of the headers.

uvicorn has no such limits. A client could fill the memory, or keep connections open for ever,
before any request reaches the application. The protocol does not know what a request asks for.
"""

import asyncio
import logging

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.settings import Settings

MAX_HEAD_BYTES = 65_536  # received without the end of the headers


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limited headers."""

    head_seconds = 10.0
    _head_is_open = True
    _head_began = False  # after another request, in the data that was just received
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
            if not self._head_began:  # otherwise most of it may belong to the body before
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(f"More than {MAX_HEAD_BYTES} bytes of headers were sent: send fewer.")
            elif self._head_timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # an earlier response may have set it
        self._head_began = not self._head_is_open
        self._head_is_open = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        sentence = f"The headers did not arrive within {self.head_seconds:g} s: send them faster."
        self._head_timer = self.loop.call_later(self.head_seconds, self._fail, sentence)

    def _stop_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _fail(self, sentence: str) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        if (
            self.cycle and not self.cycle.response_complete
        ):  # the next response belongs to an earlier request
            self.transport.close()
        else:
            self.send_400_response(sentence)


def install_protocol(settings: Settings) -> None:
    """Replace the protocol that uvicorn chooses by default. BentoML leaves it the choice."""
    BoundedProtocol.head_seconds = settings.request_timeout_ms / 1000
    # uvicorn would make a log line for every request, only to drop it.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
