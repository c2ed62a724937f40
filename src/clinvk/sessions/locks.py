"""The two locks of a session, both held by the kernel and gone with their holder. Lock files are never unlinked.

The head lock guards a short read-modify-write; sessions share a fixed number of them. The turn lock of one session is
held for a whole run through an open descriptor, which may be handed to another process and then outlives this one.
"""

import os
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.files import is_held, locked, opened, taken

HEAD_LOCKS = 64
HEAD_LOCK_SECS = 10.0  # holders need about a millisecond; only a stopped process or a dead disk takes this long
HEAD_LOCK_POLL_SECS = 0.002

_TURN_PREFIX = "turn-"
_SUFFIX = ".lock"


class Locks:
    """The locks under one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "locks"

    def check(self) -> None:
        """Raises ClinvkError where no lock can be had: in a folder that cannot be written, or without locks."""
        path = self._folder / f"head-00{_SUFFIX}"
        fd = opened(path, os.O_RDWR)
        try:
            locked(fd, path, shared=True)
        finally:
            os.close(fd)

    @contextmanager
    def head(self, session_id: str) -> Generator[None]:
        """Hold the head lock of a session. Raises `session_busy` when it cannot be had in time."""
        path = self._folder / f"head-{zlib.crc32(session_id.encode()) % HEAD_LOCKS:02d}{_SUFFIX}"
        fd = opened(path, os.O_RDWR)  # anew each time, so that the threads of a process exclude each other too
        try:
            if not _taken_in_time(fd, path):
                raise ClinvkError(
                    "session_busy",
                    f"session {session_id} is being changed by another process for more than {HEAD_LOCK_SECS:g} s",
                    hint=f"look for a stopped process that holds {path}, then try again",
                    details={"field": "session_id", "value": session_id},
                )
            yield
        finally:
            os.close(fd)

    @contextmanager
    def turn(self, session_id: str, run_id: str | None = None) -> Generator[int]:
        """Hold the turn lock; gives the descriptor that holds it. Raises `session_busy` at once when it is held.

        The lock ends when every copy of the descriptor is closed, in whatever process.
        """
        path = self._turn_path(session_id)
        fd = opened(path, os.O_RDWR)
        try:
            if not taken(fd, path):
                raise _busy(session_id, os.pread(fd, 200, 0).decode("utf-8", "replace").strip())
            with suppress(OSError):  # only a courtesy to whoever finds the session busy
                os.ftruncate(fd, 0)
                os.pwrite(fd, (run_id or "").encode("utf-8", "replace"), 0)
            yield fd
        finally:
            os.close(fd)

    def is_running(self, session_id: str) -> bool:
        """Whether a run holds the turn lock now."""
        return is_held(self._turn_path(session_id))

    def ever_run(self) -> list[str]:
        """The ids of all sessions whose turn lock was ever taken."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return [
            name[len(_TURN_PREFIX) : -len(_SUFFIX)]
            for name in names
            if name.startswith(_TURN_PREFIX) and name.endswith(_SUFFIX)
        ]

    def _turn_path(self, session_id: str) -> Path:
        return self._folder / f"{_TURN_PREFIX}{session_id}{_SUFFIX}"


def _taken_in_time(fd: int, path: Path) -> bool:
    give_up = time.monotonic() + HEAD_LOCK_SECS
    while True:
        if locked(fd, path):
            return True
        if time.monotonic() > give_up:
            return False
        time.sleep(HEAD_LOCK_POLL_SECS)


def _busy(session_id: str, run_id: str) -> ClinvkError:
    by = f"run {run_id}" if run_id else "another run"
    return ClinvkError(
        "session_busy",
        f"session {session_id} is in use by {by}",
        hint=f"wait for {by} to end, or fork the session and go on in the fork",
        details={"field": "session_id", "value": session_id, "run_id": run_id or None},
    )
