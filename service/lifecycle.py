"""Stops a worker without losing a request: serving, draining, closed.

On SIGTERM `/readyz` answers 503 at once. Requests are answered for `DRAIN_SECONDS` more. Only then
does the server below receive the signal, finish its open requests and exit. Ctrl-C reaches it at
once.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from service.telemetry.log import with_fields

log = logging.getLogger(__name__)


class Lifecycle:
    """Which of these phases this worker is in."""

    def __init__(self, drain_seconds: float) -> None:
        self.draining = False
        self.closed = False
        self._drain_seconds = drain_seconds

    @contextmanager
    def catch_signals(self) -> Iterator[None]:
        """Handle signals before the server's own handlers do; enter this on its event loop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        terminate, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        assert callable(terminate)
        assert callable(interrupt)

        def on_terminate(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._drain, lambda: terminate(number, frame))

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            self._drain_seconds = 0
            self.draining = True
            interrupt(number, frame)

        signal.signal(signal.SIGTERM, on_terminate)
        signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, terminate)
            signal.signal(signal.SIGINT, interrupt)

    def _drain(self, stop: Callable[[], Any]) -> None:
        if self.draining and self._drain_seconds:
            return  # a second SIGTERM
        self.draining = True
        log.info("draining", extra=with_fields(seconds=self._drain_seconds))
        asyncio.get_running_loop().call_later(self._drain_seconds, self._close, stop)

    def _close(self, stop: Callable[[], Any]) -> None:
        self.closed = True
        stop()
