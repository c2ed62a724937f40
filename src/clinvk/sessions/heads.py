"""The head files: `<id>.json` is read, replaced, removed, and set aside when it is damaged.

A head that lags behind its turns (a crash between the two writes) is brought up to date whenever it is read.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from clinvk.errors import ClinvkError
from clinvk.files import TEMPORARY_SUFFIX, private_folder, reading, write_whole, writing
from clinvk.sessions import turnlog
from clinvk.sessions.model import Session, encode, folded, timestamp

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SUFFIX = ".json"
# A folder changed this recently may change again within one tick of its file system's clock.
FRESH_NS = 50_000_000
LEFT_BEHIND_SECS = 3600.0  # a temporary file this old belongs to a writer that died


def checked(session_id: str) -> str:
    """`session_id` itself. Raises `invalid_request` for what cannot be an id and could name another file."""
    if _ID.fullmatch(session_id):
        return session_id
    raise ClinvkError(
        "invalid_request",
        f"{session_id!r} is not a session id",
        hint="a session id, or its beginning, has only lower-case letters, digits and hyphens",
        details={"field": "session_id", "value": session_id},
    )


class Heads:
    """The head files in one folder. `warnings` gathers what was found damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self._counted = (-1, 0)  # when the folder was changed last, and how many heads it held then

    def path(self, session_id: str) -> Path:
        """The head file of a session."""
        return self.folder / f"{checked(session_id)}{_SUFFIX}"

    def turns_path(self, session_id: str) -> Path:
        """The turns file of a session."""
        return self.folder / f"{checked(session_id)}.turns.jsonl"

    def ids(self) -> list[str]:
        """The ids of all sessions."""
        return [stem for stem in self.stems() if _ID.fullmatch(stem)]

    def stems(self) -> dict[str, int]:
        """What may be sessions, by file name, with the inode of each: all that one look at the folder tells."""
        cut = -len(_SUFFIX)
        with reading(self.folder):
            try:
                with os.scandir(self.folder) as entries:
                    return {name[:cut]: entry.inode() for entry in entries if (name := entry.name).endswith(_SUFFIX)}
            except FileNotFoundError:
                return {}

    def count(self) -> int:
        """How many there are: at most one look at the folder, and none while nothing in it changes.

        Raises ClinvkError where heads could not be read, or none be written.
        """
        with reading(self.folder):
            try:
                changed = self.folder.stat().st_mtime_ns
            except FileNotFoundError:  # it is made with the first session
                return 0
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise ClinvkError(
                "internal",
                f"the sessions in {self.folder} cannot be read and written",
                hint="check the permissions of the folder, and whether its disk is mounted for reading only",
                details={"path": str(self.folder)},
            )
        at, known = self._counted
        if at != changed:
            known = len(self.stems())
            self._counted = (changed if time.time_ns() - changed >= FRESH_NS else -1, known)
        return known

    def inode(self, session_id: str) -> int:
        """The inode of a head, 0 when there is none."""
        try:
            return self.path(session_id).stat().st_ino
        except OSError:
            return 0

    def read(self, session_id: str) -> Session | None:
        """The head, up to date with its turns; None when there is none, or it is damaged and was set aside."""
        path = self.path(session_id)
        with reading(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            head = Session.model_validate_json(data)
        except ValidationError as error:
            self._set_aside(path, error)
            return None
        if head.id != session_id:  # a copy made by hand: the file name counts
            head = head.model_copy(update={"id": session_id})
        return self._up_to_date(head)

    def listed(self, session_id: str) -> Session | None:
        """Like `read`, but a head that cannot be read is a warning."""
        try:
            return self.read(session_id)
        except ClinvkError as error:
            self.warn(f"session {session_id} is left out: {error}")
            return None

    def write(self, head: Session, *, sync_folder: bool = False) -> None:
        """Replace the head. With `sync_folder` it survives power loss without help from the turns file."""
        private_folder(self.folder)
        write_whole(self.path(head.id), encode(head, indent=2) + b"\n", sync=True, sync_folder=sync_folder)

    def remove(self, session_id: str) -> None:
        """Remove turns and head, the head last, so that what a crash leaves is still listed."""
        for path in (self.turns_path(session_id), self.path(session_id)):
            with writing(path):
                path.unlink(missing_ok=True)

    def remove_left_behind(self, now: float) -> None:
        """Remove the temporary files of writers that died."""
        for path in self.folder.glob(f".*{TEMPORARY_SUFFIX}"):
            with suppress(OSError):
                if now - path.stat().st_mtime > LEFT_BEHIND_SECS:
                    path.unlink()

    def set_aside(self, session_id: str) -> list[str]:
        """Names of damaged heads of this session that were set aside."""
        return sorted(path.name for path in self.folder.glob(f"{session_id}{_SUFFIX}.damaged-*"))

    def _up_to_date(self, head: Session) -> Session:
        path = self.turns_path(head.id)
        if turnlog.size(path) <= head.turns_bytes:
            return head
        for line in turnlog.lines(path, head.turns_bytes):
            turn = line.turn()
            if turn is not None and turn.run_id != head.last_run_id:
                head = folded(head, turn, line.end)
        return head

    def _set_aside(self, path: Path, error: ValidationError) -> None:
        stamp = re.sub(r"[^0-9TZ]", "", timestamp())
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        problem = error.errors(include_url=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
        try:
            path.rename(aside)
        except FileNotFoundError:
            return  # another process was first
        except OSError:
            self.warn(f"{path} is damaged ({reason}) and could not be set aside")
        else:
            self.warn(f"{path.name} is damaged ({reason}); it was set aside as {aside}, its turns are kept")

    def warn(self, message: str) -> None:
        """Note what was found damaged; the same is noted once."""
        with suppress(ValueError):
            self.warnings.remove(message)
        self.warnings.append(message)
        del self.warnings[:-100]
