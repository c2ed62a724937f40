"""A SQLite database of what could be worked out from other files as well: it saves work, and may be deleted any time.

Opened anew for each use, so it has no state to share between threads or to lose in a fork. Where the file cannot be
used (locked, full, read-only folder) a database in memory takes its place; a corrupt one is built again.
"""

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clinvk.errors import ClinvkError
from clinvk.files import private_folder

LOCKED_SECS = 5.0  # another process may be building it; after that, work in memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Derived:
    """The database at `path`; `build` makes the tables of `version` in an empty one."""

    path: Path
    version: int
    build: Callable[[sqlite3.Connection], None]

    def used(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """What `read` makes of it; it is called once more where the file turned out to be corrupt."""
        with suppress(OSError, ClinvkError, sqlite3.OperationalError):
            private_folder(self.path.parent)
            try:
                return self._used_on_disk(read)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise  # locked, full, read-only: nothing is wrong with the file; else a table is missing
                for suffix in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                with suppress(sqlite3.DatabaseError):
                    return self._used_on_disk(read)
        return self._used_at(":memory:", read)

    def _used_on_disk(self, read: Callable[[sqlite3.Connection], T]) -> T:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return self._used_at(str(self.path), read)

    def _used_at(self, place: str, read: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(place, isolation_level=None, timeout=LOCKED_SECS)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] != self.version:
                self._build(db)
            db.execute("PRAGMA synchronous = OFF")
            return read(db)

    def _build(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        with transaction(db):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == self.version:
                return  # another process was first
            if version:
                raise sqlite3.DatabaseError(f"of another version: {version}")
            self.build(db)
            db.execute(f"PRAGMA user_version = {self.version}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """A write transaction, all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
