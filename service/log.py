"""The log: one JSON object a line, on standard error. Holds no picture content and no keys."""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record with all its extra fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_log() -> None:
    """Send what `service` logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("service")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # What Pillow thinks of a client's file is told to the client, where it matters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
