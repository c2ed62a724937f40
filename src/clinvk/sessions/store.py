"""Sessions as JSON files: the one door to everything under `sessions/`.

What a method returned is saved: it survives power loss. A change costs the same however many sessions and turns there
are (a fork copies its turns). Processes and threads may share a home. `page`, `search`, `clean`, `export`, `fork` and
`resolve` of a prefix may take longer and belong in a thread; the rest takes about one millisecond.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from clinvk.errors import ClinvkError
from clinvk.files import exists, private_folder, reading, write_whole, writing
from clinvk.request import TAG_CHARS, usable_tag
from clinvk.sessions import export, search, turnlog
from clinvk.sessions.heads import Heads, checked
from clinvk.sessions.journal import Journal
from clinvk.sessions.locks import Locks
from clinvk.sessions.model import (
    SESSION_STATUSES,
    Page,
    SearchHit,
    SearchPage,
    Session,
    SessionFilter,
    TurnRecord,
    TurnUpdate,
    accepted,
    begun,
    folded,
    new_id,
    timestamp,
)

if TYPE_CHECKING:
    from clinvk.sessions.index import Found, Index

ANY = SessionFilter()
NAMED_CANDIDATES = 5


class SessionStore:
    """The sessions under one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._heads = Heads(home / "sessions")
        self._journal = Journal(home / "cache" / "sessions.journal")
        self._locks = Locks(home)

    # One session

    def create(self, head: Session) -> Session:
        """Store a new session; returns it as stored (title derived, prompt shortened)."""
        checked(head.id)
        head = begun(head)
        with self._locks.head(head.id):
            if self.exists(head.id):
                raise ClinvkError(
                    "invalid_request",
                    f"session {head.id} exists already",
                    hint="leave the id out; a fresh one is chosen",
                )
            self._heads.write(head, sync_folder=True)
        self._journal.changed(head.id)
        return head

    def exists(self, session_id: str) -> bool:
        """Whether there is a session with exactly this id."""
        return exists(self._heads.path(session_id))

    def found(self, head: Session, turn: TurnRecord, update: TurnUpdate | None = None) -> Session:
        """Store a new session with its first turn; returns its head.

        The turn is written first, so that a crash leaves either nothing that is listed or the whole session.
        """
        checked(head.id)
        update_ = accepted(update or {})
        with self._locks.head(head.id):
            if self.exists(head.id):
                raise ClinvkError("invalid_request", f"session {head.id} exists already")
            private_folder(self._heads.folder)
            numbered = turn.model_copy(update={"number": 1, "update": update_})
            path = self._heads.turns_path(head.id)
            with writing(path):
                path.unlink(missing_ok=True)  # of an attempt that a crash cut off before there was a head
            head = folded(begun(head), numbered, turnlog.append(path, numbered))
            self._heads.write(head, sync_folder=True)
        self._journal.changed(head.id)
        return head

    def load(self, session_id: str) -> Session:
        """The head as it is now; its status is `running` while a run holds the turn lock."""
        return self._shown(self._present(session_id))

    def resolve(self, prefix: str) -> str:
        """The id that `prefix` is or begins. Raises `session_not_found`, or `invalid_request` when several match."""
        if self.exists(prefix):
            return prefix
        ids = self._heads.ids()
        matches = sorted(name for name in ids if name.startswith(prefix))
        if not matches:
            raise self._not_found(prefix, ids)
        if len(matches) > 1:
            named = ", ".join(matches[:NAMED_CANDIDATES]) + (", ..." if len(matches) > NAMED_CANDIDATES else "")
            raise ClinvkError(
                "invalid_request",
                f"session id {prefix!r} is ambiguous: {len(matches)} sessions begin with it",
                hint=f"give more of the id; candidates: {named}",
                details={"field": "session_id", "value": prefix, "candidates": matches[:NAMED_CANDIDATES]},
            )
        return matches[0]

    def append_turn(self, session_id: str, turn: TurnRecord, update: TurnUpdate | None = None) -> Session:
        """Append a turn and bring the head up to date with it; returns the head.

        Appending the turn of the same run again changes nothing. `turn.number` is given here; `update` holds further
        head fields to set. When the head cannot be written after the line was, the turn is kept all the same.
        """
        update_ = accepted(update or {})
        path = self._heads.turns_path(session_id)
        with self._locks.head(session_id):
            head = self._present(session_id)
            if turn.run_id != head.last_run_id and not turnlog.has_recent_run(path, turn.run_id):
                numbered = turn.model_copy(update={"number": head.turn_count + 1, "update": update_})
                head = folded(head, numbered, turnlog.append(path, numbered))
            self._heads.write(head, sync_folder=head.turn_count == 1)
        self._journal.changed(session_id)
        return head

    def edit(self, session_id: str, change: Callable[[Session], Session]) -> Session:
        """Replace the head by `change(head)`; returns the new head."""
        with self._locks.head(session_id):
            head = self._present(session_id)
            head = Session.model_validate(change(head).model_dump() | {"id": session_id})
            self._heads.write(head, sync_folder=True)
        self._journal.changed(session_id)
        return head

    def tag(self, session_id: str, tags: Iterable[str]) -> Session:
        """Add tags; those it has already are kept once."""
        wanted = [_tag(tag) for tag in tags]
        return self.edit(
            session_id, lambda head: head.model_copy(update={"tags": list(dict.fromkeys([*head.tags, *wanted]))})
        )

    def untag(self, session_id: str, tags: Iterable[str]) -> Session:
        """Remove tags; those it does not have are ignored."""
        unwanted = {tag.strip() for tag in tags}
        return self.edit(
            session_id,
            lambda head: head.model_copy(update={"tags": [tag for tag in head.tags if tag not in unwanted]}),
        )

    def rename(self, session_id: str, title: str) -> Session:
        """Give another title, on one line."""
        title = " ".join(title.split())
        if not title:
            raise ClinvkError("invalid_request", "title is blank", hint="give some words", details={"field": "title"})
        return self.edit(session_id, lambda head: head.model_copy(update={"title": title}))

    def fork(self, session_id: str) -> Session:
        """A new session with the same head and turns, which go their own ways; allowed while a run is going on."""
        fresh = new_id()
        with self._locks.head(session_id):
            head = self._present(session_id)
            source = self._heads.turns_path(session_id)
            with reading(source):
                data = source.read_bytes() if turnlog.size(source) else b""
        native = head.backend_session_id or head.native.get("fork_of")
        now = timestamp()
        fork = head.model_copy(
            update={
                "id": fresh,
                "parent_id": session_id,
                "backend_session_id": None,
                "native": {**head.native, "fork_of": native} if native else {},
                "created_at": now,
                "last_used": now,
                "turns_bytes": min(head.turns_bytes, len(data)),
            }
        )
        private_folder(self._heads.folder)
        if data:
            write_whole(self._heads.turns_path(fresh), data[: fork.turns_bytes], sync=True)
        self._heads.write(fork, sync_folder=True)
        self._journal.changed(fresh)
        return fork

    def delete(self, session_id: str) -> None:
        """Remove a session and its turns. Raises `session_busy` while a run is going on."""
        self._delete(session_id, lambda _head: True)

    @contextmanager
    def turn_lock(self, session_id: str, run_id: str | None = None) -> Generator[int]:
        """Hold the turn lock for a whole run; gives its descriptor, and raises `session_busy` at once when it is held.

        Another process that inherits the descriptor goes on holding the lock after this one has ended.
        """
        checked(session_id)
        with self._locks.turn(session_id, run_id) as fd:
            self._journal.run_started(session_id)
            yield fd

    def is_running(self, session_id: str) -> bool:
        """Whether a run holds the turn lock now."""
        return self._locks.is_running(checked(session_id))

    # Its turns

    def turns(self, session_id: str, offset: int = 0, limit: int = 20) -> list[TurnRecord]:
        """Turns from the one after `offset` on, oldest first; `turn_count` of the head is how many there are."""
        total = self._present(session_id).turn_count
        path = self._heads.turns_path(session_id)
        turns, damaged = turnlog.page(path, offset, limit, total)
        if damaged:
            self._heads.warn(f"{path} has lines that cannot be read ({damaged} here); they are left out")
        return turns

    def transcript(self, session_id: str, max_chars: int) -> list[tuple[str, str]]:
        """Prompts and outputs, newest last, as many whole turns as fit; a newest turn that does not fit is cut."""
        self._present(session_id)
        kept: list[tuple[str, str]] = []
        room = max_chars
        for turn in turnlog.newest(self._heads.turns_path(session_id)):
            room -= len(turn.prompt) + len(turn.output)
            if room < 0:
                if not kept:
                    kept.append(_cut(turn, max_chars))
                break
            kept.append((turn.prompt, turn.output))
        return kept[::-1]

    def export(self, session_id: str, format_: str = "markdown") -> str:
        """The whole session as one text: `markdown` or `json`."""
        head = self.load(session_id)
        lines = turnlog.lines(self._heads.turns_path(session_id))
        return export.exported(head, (turn for line in lines if (turn := line.turn())), format_)

    # Many sessions

    def page(self, wanted: SessionFilter = ANY, limit: int = 20, offset: int = 0) -> Page:
        """Sessions that match, last used first."""
        _check_status(wanted)
        if wanted.text:
            found, total = self._index().search(wanted, search.terms(wanted.text), limit, offset)
        else:
            found, total = self._index().page(wanted, limit, offset)
        heads = (self._heads.listed(one.id) for one in found)
        return Page([self._shown(head) for head in heads if head], total)

    def search(self, query: str, wanted: SessionFilter = ANY, limit: int = 20, offset: int = 0) -> SearchPage:
        """Sessions whose title, prompts and outputs together hold every word of `query`, last used first."""
        _check_status(wanted)
        terms = search.terms(query)
        also = search.terms(wanted.text) if wanted.text else []
        found, total = self._index().search(wanted, [*terms, *also], limit, offset)
        hits = [
            SearchHit(self._shown(head), search.snippet(self._matching_text(head, one), terms))
            for one in found
            if (head := self._heads.listed(one.id))
        ]
        return SearchPage(hits, total)

    def clean(self, older_than_days: float, now: datetime | None = None) -> list[str]:
        """Delete sessions not used for so many days, and return their ids; 0 keeps all for ever.

        A session in use is never deleted. Temporary files of writers that died are removed in any case.
        """
        if older_than_days < 0:
            raise ClinvkError(
                "invalid_request",
                f"cannot keep sessions for {older_than_days:g} days",
                hint="give a number of days, or 0 to keep them for ever",
            )
        now = now or datetime.now(UTC)
        self._heads.remove_left_behind(now.timestamp())
        if older_than_days == 0:
            return []
        limit = timestamp(now - timedelta(days=older_than_days))
        return [
            name
            for name in self._index().last_used_before(limit)
            if self._delete_if_free(name, lambda head: head.last_used < limit)
        ]

    def count(self) -> int:
        """How many sessions there are; cheap without an index, too. Raises when they cannot be read and written."""
        self._locks.check()
        return self._heads.count()

    def complete_index(self) -> None:
        """Index all text now, which searches otherwise do bit by bit; worth a background thread of a server."""
        self._index().complete()

    def warnings(self) -> list[str]:
        """What was found damaged since the last call."""
        found, self._heads.warnings = self._heads.warnings, []
        return found

    # Inside

    def _index(self) -> "Index":
        from clinvk.sessions.index import Index  # sqlite3 only where it is needed

        return Index(self._home, self._heads, self._journal, self._locks)

    def _present(self, session_id: str) -> Session:
        head = self._heads.read(session_id)
        if head is None:
            raise self._not_found(session_id, self._heads.ids())
        return head

    def _shown(self, head: Session) -> Session:
        return head.model_copy(update={"status": "running"}) if self._locks.is_running(head.id) else head

    def _not_found(self, wanted: str, ids: list[str]) -> ClinvkError:
        if aside := self._heads.set_aside(wanted):
            return ClinvkError(
                "session_not_found",
                f"the head of session {wanted} was damaged and set aside as {aside[-1]}",
                hint=f"repair it and rename it to {wanted}.json; its turns are kept",
                details={"field": "session_id", "value": wanted, "set_aside": aside},
            )
        near = _nearest(wanted, ids)
        nearest = f"nearest: {', '.join(near)}; " if near else ""
        return ClinvkError(
            "session_not_found",
            f"no session {wanted!r}",
            hint=f"{nearest}sessions(action='list') shows what there is",
            details={"field": "session_id", "value": wanted, "nearest": near},
        )

    def _delete(self, session_id: str, wanted: Callable[[Session], bool]) -> bool:
        self._present(session_id)
        with self._locks.turn(session_id), self._locks.head(session_id):
            if not wanted(self._present(session_id)):
                return False
            self._heads.remove(session_id)
        self._journal.changed(session_id)
        return True

    def _delete_if_free(self, session_id: str, wanted: Callable[[Session], bool]) -> bool:
        try:
            return self._delete(session_id, wanted)
        except ClinvkError as error:
            if error.failure.code not in {"session_busy", "session_not_found"}:
                raise
            return False

    def _matching_text(self, head: Session, found: "Found") -> str:
        if found.start is None:
            return head.title
        if found.start < 0:
            return head.initial_prompt
        line = next(turnlog.lines(self._heads.turns_path(head.id), found.start), None)
        turn = line.turn() if line else None
        return f"{turn.prompt}\n{turn.output}" if turn else head.title


def _check_status(wanted: SessionFilter) -> None:
    if wanted.status and wanted.status not in SESSION_STATUSES:
        raise ClinvkError(
            "invalid_request",
            f"no sessions have status {wanted.status!r}",
            hint=f"accepted: {', '.join(SESSION_STATUSES)}",
            details={"field": "status", "value": wanted.status, "accepted": list(SESSION_STATUSES)},
        )


def _tag(tag: str) -> str:
    try:
        return usable_tag(tag)
    except ValueError:
        raise ClinvkError(
            "invalid_request",
            f"{tag!r} cannot be a tag",
            hint=f"accepted: 1 to {TAG_CHARS} printable characters",
            details={"field": "tags", "value": tag},
        ) from None


def _nearest(wanted: str, ids: list[str]) -> list[str]:
    """The ids that share the longest beginning with `wanted`, of two characters at least."""
    for length in range(len(wanted) - 1, 1, -1):
        if near := sorted(name for name in ids if name.startswith(wanted[:length])):
            return near[:3]
    return []


def _cut(turn: TurnRecord, room: int) -> tuple[str, str]:
    """The turn in `room` characters: of a long prompt the beginning, of a long output the end."""
    prompt = turn.prompt[: room // 2] if len(turn.prompt) > room // 2 else turn.prompt
    left = room - len(prompt)
    return prompt, turn.output[-left:] if left else ""
