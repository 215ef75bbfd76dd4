"""The log: one JSON object a line, on standard error. Holds no picture content and no keys."""

import asyncio
import logging
import sys
import time
import warnings
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

FIELDS = "fields"  # the attribute of a record that holds them
service_log = logging.getLogger("service")


class JsonLinesHandler(logging.StreamHandler[TextIO]):
    """Records as JSON lines, and the lines of requests, gathered until the event loop comes round.

    A request's line is made without a record, and those of a batch are written together: one by
    one, they would cost a tenth of a small picture's answer.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Write it before the next record, and soon; called on the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.write_lines)
        self._lines.append(line)

    def write_lines(self) -> None:
        """Write what was gathered."""
        with self.lock:  # type: ignore[union-attr]  # every handler has one
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after the requests that were answered before it."""
        self.write_lines()
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = dict(getattr(record, FIELDS, {}))
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        return make_line(record.created, record.levelname.lower(), record.getMessage(), fields)


def make_line(created: float, level: str, event: str, fields: dict[str, Any]) -> str:
    """One JSON object."""
    stamp = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    line = {"time": stamp, "level": level, "event": event, **fields}
    return to_json(line, fallback=str).decode()


def with_fields(**fields: object) -> dict[str, dict[str, object]]:
    """What a log call takes as `extra`, so that the fields come to stand in its line."""
    return {FIELDS: fields}


def log_request(fields: dict[str, object]) -> None:
    """The line of an answered request."""
    for handler in service_log.handlers:
        if isinstance(handler, JsonLinesHandler):
            handler.add(make_line(time.time(), "info", "request", fields))


def configure_log() -> None:
    """Send what `service` logs to standard error, and what goes wrong with traces."""
    journal = JsonLinesHandler(sys.stderr)
    for name, level in (("service", logging.INFO), ("opentelemetry", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [journal]
        logger.setLevel(level)
        logger.propagate = False
    # No line names the place, thread or process it came from: don't look for them.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # What Pillow thinks of a client's file is told to the client, where it matters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
