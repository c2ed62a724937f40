"""Nobody but the owner can read what runs leave on disk."""

import os
import stat
from pathlib import Path

from clinvk.events import TextDelta
from clinvk.executor.runs import RunRecord, RunStore
from clinvk.executor.spool import KEPT_CHARS, Answer, EventLog


def test_files_of_a_run_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        runs = RunStore(tmp_path)
        os.close(runs.create(RunRecord(id="a1", kind="parallel", created_at=0)))
        runs.add_child("a1", "b2")
        runs.mark("a1", "read")
        log = EventLog(runs.path("a1") / "events.jsonl")
        log.write([TextDelta("x")])
        log.close()
        answer = Answer(runs.path("a1") / "output.txt")
        answer.take(TextDelta("x" * (KEPT_CHARS + 1)))
        answer.close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "runs").rglob("*")}
    assert modes == {
        "a1": 0o700,
        "request.json": 0o600,
        "run.lock": 0o600,
        "children": 0o600,
        "read": 0o600,
        "events.jsonl": 0o600,
        "output.txt": 0o600,
    }
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
