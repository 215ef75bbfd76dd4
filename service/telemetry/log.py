"""Makes the log: one JSON object per line, on standard error, without pictures or API keys.

This module knows what a line holds. How lines are written is in `log_writer`.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from service.telemetry.log_writer import LogWriter

FIELDS = "fields"  # the attribute of a record that holds its extra fields
SERVICE = __name__.removesuffix(".telemetry.log")  # "service", or as the wheel calls it
service_log = logging.getLogger(SERVICE)


class JsonLinesHandler(logging.Handler):
    """Passes records as JSON lines to the writer. A request's line needs no record."""

    def __init__(self, descriptor: int, count_dropped: Callable[[], None]) -> None:
        super().__init__()
        self._writer = LogWriter(descriptor, count_dropped, describe_dropped)

    def add(self, line: str) -> None:
        """Write the line of a request soon."""
        self._writer.add(line)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a record, after the lines of the requests answered before it."""
        try:
            self._writer.add(self.format(record), is_urgent=True)
        except Exception:  # as every handler does: a record must not fail its caller
            self.handleError(record)

    def flush(self) -> None:
        """Wait until everything is written. `logging` calls it when the process ends."""
        self._writer.flush()

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON line."""
        fields = dict(getattr(record, FIELDS, {}))
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        return make_line(record.created, record.levelname.lower(), record.getMessage(), fields)


def describe_dropped(count: int) -> str:
    """The line that says how many lines are missing."""
    return make_line(time.time(), "warning", "log lines dropped", {"lines": count})


def make_line(created: float, level: str, event: str, fields: dict[str, Any]) -> str:
    """One log line as JSON."""
    stamp = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    line = {"time": stamp, "level": level, "event": event, **fields}
    return to_json(line, fallback=str).decode()


def with_fields(**fields: object) -> dict[str, dict[str, object]]:
    """The `extra` argument of a log call that adds the fields to its line."""
    return {FIELDS: fields}


def log_request(fields: dict[str, object]) -> None:
    """Log the line of an answered request."""
    for handler in service_log.handlers:
        if isinstance(handler, JsonLinesHandler):
            handler.add(make_line(time.time(), "info", "request", fields))


def flush_log() -> None:
    """Wait until the log is written, for a bounded time."""
    for handler in service_log.handlers:
        handler.flush()


def configure_log(count_dropped: Callable[[], None]) -> None:
    """Send the records of `service`, and warnings that a client can cause, to standard error.

    `count_dropped` is called for each line that is dropped because the reader stalls.
    """
    handler = JsonLinesHandler(sys.stderr.fileno(), count_dropped)
    for name in (SERVICE, "opentelemetry", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO if name == SERVICE else logging.WARNING)
        logger.propagate = False
    # If a client's file is invalid, the client gets an error; the log needs no warning from Pillow.
    warnings.filterwarnings("ignore", module=r"PIL\.")
