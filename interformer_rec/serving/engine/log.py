"""Lines that machines read: one JSON object each, on standard error, without a value of any request. In: what happened; out: a line."""

import logging
import os
import sys
from datetime import datetime, timezone
from typing import Any

import orjson

_PID = "pid"


def line(event: str, **facts: Any) -> None:
    """Write an event and its facts; those that are None are left out."""
    found = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, _PID: os.getpid()}
    found |= {name: value for name, value in facts.items() if value is not None}
    sys.stderr.write(orjson.dumps(found).decode() + "\n")
    sys.stderr.flush()


class JsonHandler(logging.Handler):
    """uvicorn's own messages as lines of the same kind."""

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        try:
            error = None if record.exc_info is None else repr(record.exc_info[1])
            line("http", level=record.levelname.lower(), message=record.getMessage(), error=error)
        except Exception:
            self.handleError(record)
