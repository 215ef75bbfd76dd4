"""The log: one JSON object a line, on standard error. Holds no picture content and no keys."""

import logging
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

FIELDS = "fields"  # the attribute of a record that holds them


class JsonFormatter(logging.Formatter):
    """A record with its fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return to_json(line, fallback=str).decode()


def with_fields(**fields: object) -> dict[str, dict[str, object]]:
    """What a log call takes as `extra`, so that the fields come to stand in its line."""
    return {FIELDS: fields}


def configure_log() -> None:
    """Send what `service` logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("service")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # No line names the place, thread or process it came from: don't look for them.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # What Pillow thinks of a client's file is told to the client, where it matters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
