"""A small append-only file that names each session just after it changed, so that a reader need not look at all.

It only saves work: a line that is missing is made up for by a look at the sessions folder.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from clinvk.errors import ClinvkError
from clinvk.files import opened

JOURNAL_LIMIT_BYTES = 4 * 1024 * 1024
_TAIL_BYTES = 64
_RUN_MARK = "+"


class Position(NamedTuple):
    """A place in the journal; the bytes before it tell whether it is still the same journal."""

    offset: int = 0
    tail: bytes = b""


class Changes(NamedTuple):
    """What was written since a position. Not `complete`: the journal is another one, look at everything."""

    sessions: set[str]
    runs: set[str]
    complete: bool
    position: Position


class Journal:
    """The journal file at `path`; any process may append."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def changed(self, session_id: str) -> None:
        """Note that the head of a session was replaced or removed."""
        self._append(session_id)

    def run_started(self, session_id: str) -> None:
        """Note that a run took the turn lock of a session."""
        self._append(_RUN_MARK + session_id)

    def since(self, position: Position) -> Changes:
        """What was noted after `position`."""
        try:
            data, known = self._read(position)
        except OSError:
            return Changes(set(), set(), position.offset == 0, Position())
        whole = data[: data.rfind(b"\n") + 1]
        marks = [line.split(b" ")[0].decode("ascii", "replace") for line in whole.splitlines()]
        end = (position.offset if known else 0) + len(whole)
        tail = ((position.tail if known else b"") + whole)[-_TAIL_BYTES:]
        return Changes(
            sessions={mark for mark in marks if not mark.startswith(_RUN_MARK)},
            runs={mark[1:] for mark in marks if mark.startswith(_RUN_MARK)},
            complete=known,
            position=Position(end, tail),
        )

    def shorten(self, position: Position) -> None:
        """Drop a journal that has grown long; readers then look at everything once."""
        if position.offset > JOURNAL_LIMIT_BYTES:
            with suppress(OSError):
                self._path.unlink()

    def _read(self, position: Position) -> tuple[bytes, bool]:
        with self._path.open("rb") as file:
            file.seek(max(0, position.offset - len(position.tail)))
            data = file.read()
            if data.startswith(position.tail):
                return data[len(position.tail) :], True
            file.seek(0)
            return file.read(), False

    def _append(self, mark: str) -> None:
        # Suppressed: the session itself is written; the folder scan finds what the journal does not name.
        with suppress(OSError, ClinvkError):
            fd = opened(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(fd, f"{mark} {time.time_ns():x}\n".encode("ascii"))
            finally:
                os.close(fd)
