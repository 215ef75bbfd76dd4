"""One connection before its request is known: how long and how slow the headers may be.

uvicorn sets no end to either, so a client could fill the memory, or hold connections for good,
without ever coming to the front door. And where no more can be let in, a task for each would cost
more than to say so. Knows nothing of what is asked.
"""

import asyncio
import logging
from collections.abc import Callable

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.request import Scope
from service.settings import Settings

MAX_HEAD_BYTES = 65_536  # that came without the end of the headers

TurnAway = Callable[[Scope], bytes | None]  # what to answer at once, if anything


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's own, with an end to the headers, and refusals that need no task."""

    head_seconds = 10.0
    turn_away: TurnAway
    _passing = False  # the body of a request that was turned away
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
        if self._passing:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)
        elif self._head_is_open:
            if not self._head_began:  # else most of it may be the end of a body before
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(f"More than {MAX_HEAD_BYTES} bytes of headers were sent: send fewer.")
            elif self._head_timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # set by an answer to what came before, in one read
        self._head_began = not self._head_is_open
        self._head_is_open = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._stop_timer()
        refusal = self._find_refusal()
        if refusal is None:
            super().on_headers_complete()
        else:
            self.transport.write(refusal)
            self._passing = True

    def on_body(self, body: bytes) -> None:
        if not self._passing:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._passing:
            self._passing = False
            self._stop_timer()
            self.on_response_complete()
        else:
            super().on_message_complete()

    def _find_refusal(self) -> bytes | None:
        """What a request is turned away with, if it can be at once and the connection be kept."""
        first = self.cycle is None or self.cycle.response_complete
        heard = not self.flow.write_paused
        kept = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        if (
            not (first and heard and kept)
            or self.expect_100_continue
            or self.parser.should_upgrade()
        ):
            return None
        path, _, query = self.url.partition(b"?")
        return self.turn_away(
            {
                "method": self.parser.get_method().decode("latin-1"),
                "path": path.decode("latin-1"),
                "query_string": query,
                "headers": self.headers,
            }
        )

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


def install_protocol(settings: Settings, turn_away: TurnAway) -> None:
    """Have uvicorn take this protocol where it is told to choose one, as BentoML does."""
    BoundedProtocol.head_seconds = settings.request_timeout_ms / 1000
    BoundedProtocol.turn_away = staticmethod(turn_away)
    # uvicorn would put a line of its own together for every request, only to drop it.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
