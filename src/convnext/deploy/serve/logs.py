"""Logs as lines of JSON on standard error. No line holds what is in an image."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime

from convnext.printing import printable

LOG_FIELDS = "fields"
"""Attribute of a log record that holds more entries for its line, by name."""


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON: time, level, process, message, what is under `LOG_FIELDS`, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": os.getpid(),
            "message": printable(record.getMessage()),
            **getattr(record, LOG_FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)


def log_as_json() -> None:
    """Have all logs of this process written as JSON: this package's from "info" on, others' warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("convnext").setLevel(logging.INFO)
