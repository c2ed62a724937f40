"""A derived SQLite index of heads and turns, brought up to date when it is read; deleting it costs time only."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from clinvk.derived import Derived, transaction
from clinvk.errors import ClinvkError
from clinvk.sessions import textindex
from clinvk.sessions.heads import FRESH_NS, Heads
from clinvk.sessions.journal import Changes, Journal, Position
from clinvk.sessions.locks import Locks
from clinvk.sessions.model import Session, SessionFilter
from clinvk.sessions.search import fold

SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE state (folder_mtime INTEGER, journal_offset INTEGER, journal_tail BLOB)",
    "INSERT INTO state VALUES (0, 0, x'')",
    """CREATE TABLE heads (
        num INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, inode INTEGER, backend TEXT, working_dir TEXT,
        status TEXT, last_used TEXT, title TEXT, tags TEXT, turns_bytes INTEGER,
        text_bytes INTEGER DEFAULT 0, texts INTEGER DEFAULT 0
    )""",
    "CREATE INDEX heads_by_use ON heads (last_used DESC, id)",
    "CREATE INDEX heads_behind ON heads (num) WHERE turns_bytes != text_bytes OR texts = 0",
    "CREATE TABLE busy (id TEXT PRIMARY KEY)",
)
_UPSERT = """
INSERT INTO heads (id, inode, backend, working_dir, status, last_used, title, tags, turns_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET inode = excluded.inode, backend = excluded.backend,
    working_dir = excluded.working_dir, status = excluded.status, last_used = excluded.last_used,
    title = excluded.title, tags = excluded.tags, turns_bytes = excluded.turns_bytes
"""
_ORDER = "ORDER BY last_used DESC, id"

T = TypeVar("T")


class Found(NamedTuple):
    """An id that matched, and where its matching turn starts (see `textindex.first_match`)."""

    id: str
    start: int | None = None


class _Pending(NamedTuple):
    changes: Changes
    folder_mtime: int
    scan: bool


class Index:
    """The index of one home."""

    def __init__(self, home: Path, heads: Heads, journal: Journal, locks: Locks) -> None:
        self._derived = Derived(home / "cache" / "sessions.sqlite", SCHEMA_VERSION, _build)
        self._heads = heads
        self._journal = journal
        self._locks = locks

    def page(self, wanted: SessionFilter, limit: int, offset: int) -> tuple[list[Found], int]:
        """Sessions that match, last used first, and how many there are in all; `text` is not looked at."""

        def read(db: sqlite3.Connection) -> tuple[list[Found], int]:
            where, values = self._where(db, wanted)
            (total,) = db.execute(f"SELECT count(*) FROM heads WHERE {where}", values).fetchone()
            query = f"SELECT id FROM heads WHERE {where} {_ORDER} LIMIT ? OFFSET ?"
            return [Found(*row) for row in db.execute(query, [*values, limit, offset])], total

        return self._used(read)

    def search(self, wanted: SessionFilter, terms: Sequence[str], limit: int, offset: int) -> tuple[list[Found], int]:
        """Sessions that match and hold all terms in title, prompts or outputs, last used first."""

        def read(db: sqlite3.Connection) -> tuple[list[Found], int]:
            textindex.update(db, self._heads)
            textindex.add_trigrams(db)
            where, values = self._where(db, wanted)
            for term in terms:
                numbers, asked = textindex.holding(db, term)
                where += f" AND (instr(title, ?) > 0 OR num IN ({numbers}))"
                values += [term, *asked]
            matches = db.execute(f"SELECT num, id FROM heads WHERE {where} {_ORDER}", values).fetchall()
            shown = matches[offset : offset + limit]
            return [Found(name, textindex.first_match(db, num, list(terms))) for num, name in shown], len(matches)

        return self._used(read)

    def last_used_before(self, moment: str) -> list[str]:
        """Ids of sessions not used since `moment`, oldest first."""

        def read(db: sqlite3.Connection) -> list[str]:
            query = "SELECT id FROM heads WHERE last_used < ? ORDER BY last_used"
            return [row[0] for row in db.execute(query, [moment])]

        return self._used(read)

    def complete(self) -> None:
        """Index all text now, which searches otherwise do bit by bit."""

        def read(db: sqlite3.Connection) -> None:
            textindex.update(db, self._heads)
            textindex.add_trigrams(db, everything=True)

        self._used(read)

    def _used(self, read: Callable[[sqlite3.Connection], T]) -> T:
        def brought_up_to_date(db: sqlite3.Connection) -> T:
            self._update(db)
            return read(db)

        return self._derived.used(brought_up_to_date)

    def _pending(self, db: sqlite3.Connection) -> _Pending | None:
        folder_mtime, offset, tail = db.execute("SELECT * FROM state").fetchone()
        changes = self._journal.since(Position(offset, tail))
        try:
            mtime = self._heads.folder.stat().st_mtime_ns
        except OSError:
            mtime = -1
        scan = mtime != folder_mtime or not changes.complete
        if not (scan or changes.sessions or changes.runs):
            return None
        if time.time_ns() - mtime < FRESH_NS:
            mtime = 0  # look again next time
        return _Pending(changes, mtime, scan)

    def _update(self, db: sqlite3.Connection) -> None:
        if self._pending(db) is None:
            return
        with transaction(db):
            pending = self._pending(db)  # another process may have been first
            if pending is None:
                return
            self._update_heads(db, pending)
            self._update_busy(db, pending.changes)
            db.execute(
                "UPDATE state SET folder_mtime = ?, journal_offset = ?, journal_tail = ?",
                (pending.folder_mtime, *pending.changes.position),
            )
        self._journal.shorten(pending.changes.position)

    def _update_heads(self, db: sqlite3.Connection, pending: _Pending) -> None:
        changed = set(pending.changes.sessions)
        if pending.scan:
            found = self._heads.stems()
            known: dict[str, int] = dict(db.execute("SELECT id, inode FROM heads"))
            changed.update(name for name, _ in found.items() - known.items())
            changed.update(known.keys() - found.keys())
        for name in changed:
            with suppress(ClinvkError):  # a foreign file or a foreign line in the journal names no session
                inode = self._heads.inode(name)  # before reading: a later change shows in the next scan
                head = self._heads.listed(name)
                if head is None:
                    _forget(db, name)
                else:
                    db.execute(_UPSERT, _row(head, inode))

    def _update_busy(self, db: sqlite3.Connection, changes: Changes) -> None:
        runs = changes.runs | {row[0] for row in db.execute("SELECT id FROM busy")}
        if not changes.complete or not changes.position.offset:
            runs.update(self._locks.ever_run())
        db.execute("DELETE FROM busy")
        db.executemany("INSERT INTO busy VALUES (?)", [(name,) for name in runs if self._locks.is_running(name)])

    def _where(self, db: sqlite3.Connection, wanted: SessionFilter) -> tuple[str, list[str | int]]:
        where, values = ["1"], list[str | int]()
        for column, value in (("backend", wanted.backend), ("working_dir", wanted.workdir)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if wanted.tag:
            where.append("instr(tags, ?) > 0")
            values.append(f"\n{wanted.tag}\n")
        if wanted.status:
            running = [name for (name,) in db.execute("SELECT id FROM busy") if self._locks.is_running(name)]
            among = f"id IN ({', '.join('?' * len(running))})"
            if wanted.status == "running":
                where.append(among)
            else:
                where.append(f"status = ? AND NOT {among}")
                values.append(wanted.status)
            values += running
        return " AND ".join(where), values


def _build(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    textindex.build(db)


def _forget(db: sqlite3.Connection, name: str) -> None:
    for (num,) in db.execute("SELECT num FROM heads WHERE id = ?", [name]).fetchall():
        textindex.forget(db, num)
        db.execute("DELETE FROM heads WHERE num = ?", [num])


def _row(head: Session, inode: int) -> tuple[str | int | None, ...]:
    tags = "".join(f"\n{tag}" for tag in head.tags) + "\n"
    title = fold(head.title)
    about = (head.backend, head.working_dir, head.status, head.last_used, title, tags)
    return (head.id, inode, *about, head.turns_bytes)
