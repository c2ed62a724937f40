"""Who did what: one JSON line per request in audit.jsonl, which only its owner can read.

No prompts unless server.audit_prompts says so, and never a key: callers go by the names of theirs.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from clinvk.gateway.service import Trail

FILE = "audit.jsonl"
MOST_BYTES = 64 * 1024 * 1024  # then the file is put aside as audit.jsonl.1, in place of the one before
PROMPT_CHARS = 10_000

_log = logging.getLogger(__name__)


class Audit:
    """Appends to the log; what cannot be written is told on standard error and ends nobody's request."""

    def __init__(self, home: Path, *, prompts: bool) -> None:
        self._path = home / FILE
        self._prompts = prompts

    def note(self, trail: Trail, *, request_id: str, who: str, address: str, status: int, route: str) -> None:
        """One request that did something, or was refused it."""
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "who": who,
            "address": address,
            "route": route,
            "status": status,
            "operation": trail.operation,
            "backend": trail.backend,
            "workdir": trail.workdir,
            "run_id": trail.run_id,
            "outcome": trail.outcome,
            "error_code": trail.error_code,
            "cost_usd": trail.cost_usd,
        }
        if self._prompts:
            line["prompts"] = [prompt[:PROMPT_CHARS] for prompt in trail.prompts]
        try:
            self._append((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        except OSError as error:
            _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)

    def _append(self, line: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
            full = os.fstat(file).st_size >= MOST_BYTES
        finally:
            os.close(file)
        if full:
            self._path.replace(self._path.with_name(f"{FILE}.1"))
