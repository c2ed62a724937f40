"""What a listing shows of finished runs, kept so that the next process need not read thousands of folders again.

Derived from the folders, and believed only while a folder is the one that was read: whoever sets a mark, replaces a
file or removes one changes the time of its folder. What is written into a file in place is not seen.
"""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clinvk.executor.runs import Brief, RunState, RunStore, Stamp

if TYPE_CHECKING:
    import sqlite3

    from clinvk.derived import Derived

SCHEMA_VERSION = 1
FEW = 20  # runs are read as fast as a database is opened


@contextmanager
def browsing(store: RunStore) -> Generator[list[str]]:
    """The ids of all runs, for a look at each; `store` knows of many finished ones already what a listing shows."""
    ids, stamps = store.looked_over()
    if len(stamps) < FEW:
        yield ids
        return
    derived = _derived(store.folder.parent)
    recalled, gone = _recalled(derived, stamps, set(ids))
    store.remember(recalled)
    yield ids
    read = {run_id: store.remembered(run_id) for run_id in stamps.keys() - recalled.keys()}
    _note(derived, {run_id: state for run_id, state in read.items() if state is not None}, stamps, gone)


def forget(store: RunStore, removed: Collection[str]) -> None:
    """Let go of what was kept of these runs, which were removed."""
    derived = _derived(store.folder.parent)
    if removed and derived.path.exists():
        _note(derived, {}, {}, removed)


def _derived(home: Path) -> "Derived":
    from clinvk.derived import Derived  # sqlite3 only where it is needed

    def build(db: "sqlite3.Connection") -> None:
        db.execute(
            """CREATE TABLE runs (
                id TEXT PRIMARY KEY, inode INTEGER, mtime INTEGER, ctime INTEGER,
                created_at REAL, parent_id TEXT, status TEXT, unread INTEGER, state TEXT
            )"""
        )

    return Derived(home / "cache" / "runs.sqlite", SCHEMA_VERSION, build)


def _recalled(
    derived: "Derived", stamps: Mapping[str, Stamp], ids: Collection[str]
) -> tuple[dict[str, Brief], list[str]]:
    """Runs whose folder is as it was, and the ids of runs that there are no more."""
    rows = derived.used(lambda db: db.execute("SELECT * FROM runs").fetchall())
    found = {row[0]: Brief(*row[4:]) for row in rows if stamps.get(row[0]) == row[1:4]}
    return found, [row[0] for row in rows if row[0] not in found and row[0] not in ids]


def _note(
    derived: "Derived", states: Mapping[str, RunState], stamps: Mapping[str, Stamp], gone: Collection[str]
) -> None:
    """Keep what was read after its stamp was taken, and forget what is gone."""
    rows = [(run_id, *stamps[run_id], *_brief(state)) for run_id, state in states.items()]
    if not rows and not gone:
        return
    from clinvk.derived import transaction

    def write(db: "sqlite3.Connection") -> None:
        db.execute("PRAGMA secure_delete = ON")  # what prompts began with goes from the disk with their runs
        with transaction(db):
            db.executemany("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in gone])
            db.executemany(f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * 9)})", rows)

    derived.used(write)


def _brief(state: RunState) -> Brief:
    record = state.record
    data = state.model_dump_json(exclude_defaults=True)
    return Brief(record.created_at, record.parent_id, state.status, state.unread, data)
