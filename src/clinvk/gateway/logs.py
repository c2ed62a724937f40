"""Logs as JSON lines, with the ids of request and run where there are any; secrets are taken out."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import TextIO

FIELDS = ("request_id", "run_id", "who", "duration_ms", "outcome", "error_code")
REDACTED = "[redacted]"
# Keys of clinvk's own and of the vendors whose CLIs it runs, and whatever follows the words that announce one.
_SECRETS = re.compile(
    r"(clinvk_[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{30,}|gh[pousr]_[A-Za-z0-9]{20,})"
    r"|((?:authorization|x-api-key|api[_-]?key|token|secret|password)[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)([^\s\"',]+)",
    re.IGNORECASE,
)


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) not in (None, "")}
        if record.exc_info:
            line["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def redacted(text: str) -> str:
    """The text without what looks like a key or a password."""
    return _SECRETS.sub(lambda found: REDACTED if found[1] else f"{found[2]}{REDACTED}", text)


def configure(stream: TextIO) -> None:
    """Log requests, and warnings of everything else, to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: record.msg != "Invalid HTTP request received.")  # uvicorn's; ours has an id
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("clinvk.gateway").setLevel(logging.INFO)
