"""Writes the log: one JSON object per line, on standard error, without pictures or API keys."""

import asyncio
import logging
import sys
import time
import warnings
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

FIELDS = "fields"  # the attribute of a record that holds its extra fields
service_log = logging.getLogger("service")


class JsonLinesHandler(logging.StreamHandler[TextIO]):
    """Writes records as JSON lines, and collects the lines of requests to write them together.

    A request's line needs no record, and the lines of one turn of the event loop are written at
    once. Written one by one, they would cost a tenth of the time of a small picture.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Write `line` soon: before the next record, or in the next turn of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.write_lines)
        self._lines.append(line)

    def write_lines(self) -> None:
        """Write the collected lines."""
        with self.lock:  # type: ignore[union-attr]  # every handler has one
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record after the lines of the requests answered before it."""
        self.write_lines()
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON line."""
        fields = dict(getattr(record, FIELDS, {}))
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        return make_line(record.created, record.levelname.lower(), record.getMessage(), fields)


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


def configure_log() -> None:
    """Send the records of `service`, and the warnings of OpenTelemetry, to standard error."""
    handler = JsonLinesHandler(sys.stderr)
    for name, level in (("service", logging.INFO), ("opentelemetry", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # If a client's file is invalid, the client gets an error; the log needs no warning from Pillow.
    warnings.filterwarnings("ignore", module=r"PIL\.")
