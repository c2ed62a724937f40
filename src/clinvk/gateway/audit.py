"""Who did what: JSON lines in audit.jsonl, which only its owner can read.

A line of the type `request` for each request that did something or was refused; one of the type `run` for each run that
ended, whichever door it came through and however long that took. No prompts unless server.audit_prompts says so.
Callers go by the names of their keys; what looks like a key or a password is taken out of whatever they wrote.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from clinvk.executor.live import LiveRun
from clinvk.gateway.logs import redacted
from clinvk.gateway.service import Trail, backends, cost
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult

FILE = "audit.jsonl"
MOST_BYTES = 64 * 1024 * 1024  # then the file is put aside as audit.jsonl.1, in place of the one before
MOST_CHARS = 10_000  # of what a caller wrote

_log = logging.getLogger(__name__)


class Audit:
    """Appends to the log; what cannot be written is told on standard error and ends nobody's request."""

    def __init__(self, home: Path, *, prompts: bool) -> None:
        self._path = home / FILE
        self._prompts = prompts

    def note(self, trail: Trail, *, request_id: str, who: str, address: str, status: int, route: str) -> None:
        """One request that did something, or was refused it."""
        line: dict[str, object] = {
            "type": "request",
            "request_id": request_id,
            "who": who,
            "address": address,
            "route": route,
            "status": status,
            "operation": trail.operation,
            "backend": _told(trail.backend),
            "workdir": _told(trail.workdir),
            "run_id": trail.run_id,
            "outcome": trail.outcome,
            "error_code": trail.error_code,
            "cost_usd": trail.cost_usd,
        }
        if self._prompts:
            line["prompts"] = [_told(prompt) for prompt in trail.prompts]
        self._write(line)

    def began(self, live: LiveRun) -> None:
        """Nothing to say yet; satisfies `Watcher`."""

    def ended(self, live: LiveRun) -> None:
        """A run ended; one that an heir drives on is told of by nobody."""
        record, result = live.record, live.result
        if record.parent_id is not None or not isinstance(
            result, PromptResult | ParallelResult | ChainResult | CompareResult
        ):
            return
        self._write(
            {
                "type": "run",
                "who": record.client,
                "operation": record.kind,
                "backend": backends(result),
                "workdir": _told(record.workdir),
                "run_id": record.id,
                "outcome": result.status,
                "error_code": result.error.code if result.error else "",
                "cost_usd": cost(result),
            }
        )

    def _write(self, line: dict[str, object]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
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


def _told(text: str) -> str:
    return redacted(text)[:MOST_CHARS]
