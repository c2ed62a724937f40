"""Runs on disk: one folder each, readable with any text tool.

    request.json   the record: what was asked, of whom, and what is needed to read the output again
    stdout, stderr, keeper.json, stdin   written by the keeper and for it
    events.jsonl   the unified events, one per line
    questions.json, answer-*.json   what the agent asks a person, and the answer of another process until it is taken
    output.txt     the whole answer, where it is longer than what result.json holds
    result.json    the result; once it is there the run has ended
    handed, read, cancel, task, shared, lent, told   empty marks: it outlives its client; its result was fetched; its
                   end was asked for; a client was told how long it stays; another process waits for it too; it was
                   handed out for the sake of that one alone; since then somebody was told its id
    waiting.lock   held by all who wait for a run that several processes share
    unsaved-STATUS   another mark: that it ended so was told, but the disk had no room for its result
    run.lock       held by whoever drives the run, and by its keeper

A run is running exactly when it has no result and its lock is held.
"""

import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinvk.errors import ClinvkError
from clinvk.files import is_held, locked, private, reading, taken, to_disk, write_unread, write_whole, writing

RunKind = Literal["prompt", "parallel", "chain", "compare"]
Mark = Literal["handed", "read", "cancel", "task", "shared", "lent", "told"]
RunEnd = Literal["completed", "failed", "cancelled", "interrupted"]
ENDS: tuple[RunEnd, ...] = get_args(RunEnd)
LEFT_BEHIND_SECS = 3600.0  # a folder that waits this long for its name belongs to a process that died
# A folder that changed this recently may change again without another time: the clocks of some file systems are coarse.
SETTLED_NS = 2_000_000_000
Stamp = tuple[int, int, int]  # inode, mtime_ns, ctime_ns of a folder; only the last cannot be set as a copy does
LISTED = frozenset({"error", "duration_ms", "total_duration_ms", "cost_usd", "output_chars", "model"})  # of a result


class RunRecord(BaseModel):
    """What was asked and what is needed to judge the output; written once, before anything starts."""

    model_config = ConfigDict(extra="ignore", defer_build=True)  # as in clinvk.request

    id: str
    kind: RunKind
    created_at: float
    client: str = ""
    parent_id: str | None = None
    position: int | None = None
    name: str | None = None
    backend: str = ""
    model: str | None = None
    workdir: str = ""
    session_id: str | None = None
    title: str = ""
    fingerprint: str = ""
    request: dict[str, Any] = Field(default_factory=dict)
    plan: dict[str, Any] = Field(default_factory=dict)


class RunState(BaseModel):
    """One run as it is now."""

    model_config = ConfigDict(defer_build=True)

    record: RunRecord
    status: Literal["completed", "failed", "cancelled", "running", "interrupted", "unsettled"]
    unread: bool
    result: dict[str, Any] | None = None


class Brief(NamedTuple):
    """What tells the place of a finished run in a list, and its state as JSON, from which the rest is had."""

    created_at: float
    parent_id: str | None
    status: str
    unread: bool
    state: str


class RunStore:
    """The runs under one home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "runs"
        self._prefix = f"{self.folder}/"  # joining paths of thousands of runs takes longer than looking at them
        self._finished: dict[str, RunState] = {}
        self._briefs: dict[str, Brief] = {}  # of others that have finished: making a state takes longer than a list

    def path(self, run_id: str) -> Path:
        """The folder of a run."""
        return _path(self._prefix, run_id)

    def create(self, record: RunRecord) -> int:
        """Make the run's folder and record; the open descriptor holds its lock until it is closed.

        The folder appears under its name only when all of it is there.
        """
        folder, hidden = self.path(record.id), self.path(f".{record.id}")
        with writing(folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            hidden.mkdir(mode=0o700)
            lock = os.open(hidden / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            locked(lock, folder / "run.lock")  # nobody else knows it yet
            write_unread(hidden / "request.json", record.model_dump_json().encode())
            with writing(folder):
                hidden.rename(folder)
        except BaseException:
            os.close(lock)
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return lock

    def secure(self, run_id: str) -> None:
        """Have the record outlast a loss of power: without it nobody could tell what became of the run."""
        folder = self.path(run_id)
        for path in (folder / "request.json", folder, self.folder):
            with writing(path):
                to_disk(path)

    def change_plan(self, run_id: str, plan: dict[str, Any]) -> None:
        """Record that another command than planned at first is run, so that its output is judged as its own."""
        record = self.record(run_id).model_copy(update={"plan": plan})
        write_whole(self.path(run_id) / "request.json", record.model_dump_json().encode())

    @contextmanager
    def owned(self, run_id: str) -> Generator[int | None]:
        """The lock of a run nobody drives, None while somebody does."""
        path = self.path(run_id) / "run.lock"
        with reading(path):
            try:
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:  # where nothing can be written, there is still the truth to be told
                lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield lock if taken(lock, path) else None
        finally:
            os.close(lock)

    def is_driven(self, run_id: str) -> bool:
        """Whether some living process drives the run."""
        return is_held(self.path(run_id) / "run.lock")

    def mark(self, run_id: str, mark: Mark) -> None:
        """Set a mark; setting it again changes nothing."""
        self._put(run_id, mark)

    def mark_read(self, run_id: str) -> None:
        """The result was fetched; where that cannot be noted it is listed as unread again, no more."""
        with suppress(ClinvkError):
            self.mark(run_id, "read")
        known = self.remembered(run_id)
        if known is not None:
            known.unread = False

    def _put(self, run_id: str, mark: str) -> None:
        folder = self.path(run_id)
        path = f"{folder}/{mark}"
        with writing(folder), suppress(FileExistsError):
            try:
                os.link(f"{folder}/run.lock", path)  # one more name of an empty file; a new file costs more
            except FileExistsError:
                raise
            except OSError:  # no lock, or a file system without links
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def marked(self, run_id: str, mark: Mark) -> bool:
        """Whether a mark is set."""
        return _is_there(f"{self._prefix}{run_id}/{mark}")

    def is_recorded(self, run_id: str) -> bool:
        """Whether there is a run of exactly this id."""
        return self.is_id(run_id) and _is_there(f"{self._prefix}{run_id}/request.json")

    def finish(self, run_id: str, result: BaseModel, *, sync: bool) -> None:
        """Save the result; from here on the run has ended."""
        write_whole(self.path(run_id) / "result.json", result.model_dump_json().encode(), sync=sync)

    def give_up(self, run_id: str, status: str) -> None:
        """The result cannot be saved: note at least how the run ended, which takes no space, for who settles it."""
        with suppress(ClinvkError):
            self._put(run_id, f"unsaved-{status}")

    def given_up(self, run_id: str) -> RunEnd | None:
        """How a run ended whose result could not be saved."""
        return next((status for status in ENDS if (self.path(run_id) / f"unsaved-{status}").exists()), None)

    def resolve(self, prefix: str) -> str:
        """The id that `prefix` begins. Raises ClinvkError(run_not_found), or invalid_request when several do."""
        if self.is_recorded(prefix):
            return prefix
        found = [run_id for run_id in self.ids() if run_id.startswith(prefix)] if self.is_id(prefix) else []
        if prefix in found:
            return prefix
        if not found:
            raise ClinvkError(
                "run_not_found",
                f"no run {prefix!r}",
                hint="runs(action='list') shows the runs that are kept",
                details={"field": "run_id", "value": prefix},
            )
        if len(found) > 1:
            shown = ", ".join(sorted(found)[:5])
            raise ClinvkError(
                "invalid_request",
                f"run_id {prefix!r} is ambiguous: {shown}",
                hint="give more characters of it",
                details={"field": "run_id", "value": prefix, "candidates": sorted(found)[:5]},
            )
        return found[0]

    @staticmethod
    def is_id(text: str) -> bool:
        """Whether `text` can be the id of a run; nothing else may become part of a path."""
        return text.isascii() and text.isalnum() and len(text) <= 64

    def ids(self) -> list[str]:
        """The ids of all runs, in no order."""
        return [entry.name for entry in self._entries()]

    def _entries(self) -> list["os.DirEntry[str]"]:
        with reading(self.folder):
            try:
                return [entry for entry in os.scandir(self.folder) if not entry.name.startswith(".")]
            except FileNotFoundError:
                return []

    def looked_over(self) -> tuple[list[str], dict[str, Stamp]]:
        """The ids of all runs, and what tells the state of a folder, where it was not read and will not look the same
        after its next change."""
        latest = time.time_ns() - SETTLED_NS
        ids: list[str] = []
        stamps: dict[str, Stamp] = {}
        known = {*self._finished, *self._briefs}
        for entry in self._entries():
            ids.append(entry.name)
            if entry.name in known:
                known.discard(entry.name)
                continue
            with suppress(OSError):  # removed just now
                about = entry.stat(follow_symlinks=False)
                if about.st_mtime_ns < latest:
                    stamps[entry.name] = (about.st_ino, about.st_mtime_ns, about.st_ctime_ns)
        for run_id in known:  # removed by other processes
            self._forget(run_id)
        return ids, stamps

    def remembered(self, run_id: str) -> RunState | None:
        """A finished run that was read before."""
        brief = self._briefs.get(run_id)
        if brief is not None:
            with suppress(ValidationError):  # damaged: to be read
                self._finished[run_id] = RunState.model_validate_json(brief.state)
            self._briefs.pop(run_id, None)
        return self._finished.get(run_id)

    def remember(self, briefs: Mapping[str, Brief]) -> None:
        """Take these finished runs as read."""
        self._briefs.update(briefs)

    def brief(self, run_id: str) -> Brief | None:
        """What a list needs of a finished run; None where it takes a look at its state."""
        known = self._briefs.get(run_id)
        if known is not None and known.unread and self.marked(run_id, "read"):
            known = self._briefs[run_id] = known._replace(unread=False)
        return known

    def unfinished(self) -> list[str]:
        """The ids of runs that have no result."""
        return [run_id for run_id in self.ids() if not _is_there(f"{self._prefix}{run_id}/result.json")]

    def record(self, run_id: str) -> RunRecord:
        """The record of a run. Raises ClinvkError(run_not_found) also when it is damaged."""
        try:
            return RunRecord.model_validate_json((self.path(run_id) / "request.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise ClinvkError(
                "run_not_found",
                f"the record of run {run_id!r} is missing or damaged: {self.path(run_id)}",
                details={"field": "run_id", "value": run_id},
            ) from error

    def result(self, run_id: str) -> dict[str, Any] | None:
        """The saved result, None while there is none."""
        try:
            result = json.loads((self.path(run_id) / "result.json").read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(result, dict) or result.get("status") not in ENDS:  # pyright: ignore[reportUnknownMemberType]
            return None
        return result  # pyright: ignore[reportUnknownVariableType]

    def state(self, run_id: str, *, listed: bool = False) -> RunState:
        """The run as it is now; `unsettled` means that it ended without anybody writing its result.

        Of a run that has ended only what a listing shows: its request and its answer stay on disk. `listed` says that
        it has just been seen in the folder of all. Raises ClinvkError(run_not_found).
        """
        known = self.remembered(run_id)
        if known is not None and not listed and not self.is_recorded(run_id):
            self._forget(run_id)  # another process removed it
            known = None
        if known is not None:
            if known.unread and self.marked(run_id, "read"):
                known.unread = False
            return known
        record = self.record(run_id)
        result = self.result(run_id)
        if result is None:
            driven = self.is_driven(run_id)
            result = self.result(run_id)  # it may have ended in between
            if result is None:
                return RunState(record=record, status="running" if driven else "unsettled", unread=True)
        record.request, record.plan = {}, {}
        state = RunState.model_construct(
            record=record,
            status=result["status"],
            unread=not self.marked(run_id, "read"),
            result={key: value for key, value in result.items() if key in LISTED},
        )
        self._finished[run_id] = state
        return state

    def children(self, run_id: str) -> list[str]:
        """The child runs of a parallel, chain or compare run, in order; none that was removed."""
        try:
            listing = (self.path(run_id) / "children").read_text(encoding="utf-8", errors="replace").split()
        except OSError:
            return []
        return [child for child in dict.fromkeys(listing) if self.is_recorded(child)]

    def add_child(self, run_id: str, child_id: str) -> None:
        """Note a child of a run, in the order in which they are started."""
        path = self.path(run_id) / "children"
        with writing(path), open(path, "a", encoding="utf-8", opener=private) as listing:
            listing.write(f"{child_id}\n")

    def remove_left_behind(self) -> None:
        """Remove folders of runs whose beginning was cut off, long after it."""
        now = time.time()
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and now - entry.stat().st_mtime > LEFT_BEHIND_SECS:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def delete(self, run_id: str) -> None:
        """Remove a run and all that belongs to it; the folder goes as a whole, so that none looks damaged meanwhile."""
        gone = self.path(f".{run_id}.removed")
        with writing(self.path(run_id)), suppress(FileNotFoundError):  # another process was first
            self.path(run_id).rename(gone)
        self._forget(run_id)
        shutil.rmtree(gone, ignore_errors=True)

    def _forget(self, run_id: str) -> None:
        self._finished.pop(run_id, None)
        self._briefs.pop(run_id, None)


@lru_cache(maxsize=256)
def _path(prefix: str, run_id: str) -> Path:
    """Made once for the dozen times that a run needs it."""
    return Path(prefix + run_id)


def _is_there(path: str) -> bool:
    """Like Path.exists, in a fraction of its time."""
    try:
        os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return True
