import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clinvk.errors import ClinvkError
from clinvk.sessions import journal as journal_module
from clinvk.sessions.model import Session, SessionFilter, TurnRecord
from clinvk.sessions.store import SessionStore


def at(second: int) -> str:
    return f"2024-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000Z"


def made(store: SessionStore, name: str, second: int = 0, **fields: Any) -> Session:
    given = {"id": name, "backend": "claude", "last_used": at(second), **fields}
    return store.create(Session.model_validate(given))


def listed(store: SessionStore, wanted: SessionFilter | None = None) -> list[str]:
    page = store.page(wanted or SessionFilter(), limit=1000)
    assert page.total == len(page.sessions)
    return [head.id for head in page.sessions]


def test_an_empty_home_lists_nothing(store: SessionStore) -> None:
    assert store.page() == ([], 0)
    assert store.search("x") == ([], 0)
    assert store.clean(1) == []


def test_pages_go_from_the_last_used_on(store: SessionStore) -> None:
    for second in (3, 1, 5, 2, 4):
        made(store, f"s{second}", second)
    assert listed(store) == ["s5", "s4", "s3", "s2", "s1"]
    page = store.page(limit=2, offset=1)
    assert ([head.id for head in page.sessions], page.total) == (["s4", "s3"], 5)
    assert store.page(limit=2, offset=9) == ([], 5)
    store.append_turn("s1", TurnRecord(run_id="r", prompt="p"))
    assert listed(store)[0] == "s1"


def test_filters_are_combined(store: SessionStore) -> None:
    made(store, "a", 1, backend="codex", working_dir="/x", tags=["one", "two"])
    made(store, "b", 2, backend="codex", working_dir="/y", tags=["one"])
    made(store, "c", 3, working_dir="/x", tags=["on"], title="Alpha Beta")
    store.append_turn("b", TurnRecord(run_id="r", prompt="p", status="failed"))
    assert listed(store, SessionFilter(backend="codex")) == ["b", "a"]
    assert listed(store, SessionFilter(workdir="/x")) == ["c", "a"]
    assert listed(store, SessionFilter(tag="one")) == ["b", "a"]
    assert listed(store, SessionFilter(tag="on")) == ["c"]
    assert listed(store, SessionFilter(status="failed")) == ["b"]
    assert listed(store, SessionFilter(status="idle")) == ["c", "a"]
    assert listed(store, SessionFilter(text="alpha")) == ["c"]
    assert listed(store, SessionFilter(backend="codex", tag="two", workdir="/x")) == ["a"]
    with pytest.raises(ClinvkError, match="'done'") as caught:
        store.page(SessionFilter(status="done"))
    assert caught.value.failure.hint == "accepted: idle, active, failed, running"


def test_files_copied_in_and_removed_by_hand_are_seen(store: SessionStore, home: Path) -> None:
    made(store, "one", 1, title="kept")
    made(store, "two", 2)
    store.append_turn("one", TurnRecord(run_id="r", prompt="walrus"))
    assert len(listed(store)) == 2
    for end in ("json", "turns.jsonl"):
        shutil.copy(home / "sessions" / f"one.{end}", home / "sessions" / f"copy.{end}")
    (home / "sessions" / "two.json").unlink()
    assert sorted(listed(store)) == ["copy", "one"]
    assert store.load("copy").id == "copy"
    assert store.search("walrus").total == 2


def test_a_head_replaced_by_hand_is_seen(store: SessionStore, home: Path) -> None:
    head = made(store, "one", 1)
    assert listed(store, SessionFilter(tag="new")) == []
    beside = home / "beside"
    beside.write_text(head.model_copy(update={"tags": ["new"]}).model_dump_json(), encoding="utf-8")
    beside.replace(home / "sessions" / "one.json")
    assert listed(store, SessionFilter(tag="new")) == ["one"]


def test_what_is_no_session_is_ignored(store: SessionStore, home: Path) -> None:
    made(store, "one")
    for name in ("README.md", "NOTES.json", "a b.json", "x.json.bak"):
        (home / "sessions" / name).write_text("hello", encoding="utf-8")
    (home / "sessions" / "folder.json").mkdir()
    assert listed(store) == ["one"]
    assert (home / "sessions" / "NOTES.json").exists()


@pytest.mark.parametrize("what", ["all", "sessions.sqlite", "sessions.journal"])
def test_the_cache_may_vanish_at_any_time(store: SessionStore, home: Path, what: str) -> None:
    made(store, "one", 1, title="first walrus")
    assert listed(store) == ["one"]
    assert store.search("walrus").total == 1
    if what == "all":
        shutil.rmtree(home / "cache")
    else:
        (home / "cache" / what).unlink()
    made(store, "two", 2, title="second walrus")
    assert listed(store) == ["two", "one"]
    assert store.search("walrus").total == 2


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None])
def test_a_damaged_index_is_built_again(store: SessionStore, home: Path, damage: bytes | None) -> None:
    made(store, "one", 1, title="walrus")
    assert store.search("walrus").total == 1
    index = home / "cache" / "sessions.sqlite"
    good = index.read_bytes()
    index.write_bytes(good[:8192] + b"\xff" * (len(good) - 8192) if damage is None else damage)
    assert listed(store) == ["one"]
    assert store.search("walrus").total == 1
    made(store, "two", 2, title="walrus")
    assert store.search("walrus").total == 2


def test_an_index_of_another_version_is_built_again(store: SessionStore, home: Path) -> None:
    made(store, "one")
    assert listed(store) == ["one"]
    db = sqlite3.connect(home / "cache" / "sessions.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert listed(store) == ["one"]


def test_an_index_without_its_tables_is_built_again(store: SessionStore, home: Path) -> None:
    def tables() -> set[str]:
        with closing(sqlite3.connect(home / "cache" / "sessions.sqlite", isolation_level=None)) as db:
            return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}

    made(store, "one")
    assert listed(store) == ["one"]
    whole = tables()
    with closing(sqlite3.connect(home / "cache" / "sessions.sqlite", isolation_level=None)) as db:
        db.execute("DROP TABLE heads")
    assert tables() < whole
    assert listed(store) == ["one"]
    assert tables() == whole


def test_a_cache_that_cannot_be_written_is_done_without(store: SessionStore, home: Path) -> None:
    made(store, "one", 1, title="walrus")
    shutil.rmtree(home / "cache")
    (home / "cache").write_text("a file in its place", encoding="utf-8")
    made(store, "two", 2, title="walrus")
    assert listed(store) == ["two", "one"]
    assert store.search("walrus").total == 2


def test_an_index_that_stays_locked_is_done_without(
    store: SessionStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinvk.derived.LOCKED_SECS", 0.01)
    made(store, "one")
    assert listed(store) == ["one"]
    other = sqlite3.connect(home / "cache" / "sessions.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    made(store, "two", 1)
    assert listed(store) == ["two", "one"]
    other.execute("ROLLBACK")
    other.close()
    assert listed(store) == ["two", "one"]


def test_a_long_journal_is_dropped_and_nothing_is_missed(
    store: SessionStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "JOURNAL_LIMIT_BYTES", 50)
    for name in ("a", "b", "c", "d", "e"):
        made(store, name)
    assert listed(store) == ["a", "b", "c", "d", "e"]
    assert not (home / "cache" / "sessions.journal").exists()
    store.tag("c", ["t"])
    store.delete("d")
    assert listed(store, SessionFilter(tag="t")) == ["c"]
    assert listed(store) == ["a", "b", "c", "e"]


def test_ten_thousand_sessions_are_listed_filtered_and_searched(store: SessionStore, home: Path) -> None:
    made(store, "first")
    folder = home / "sessions"
    for number in range(10_000):
        head = Session(
            id=f"s{number:05d}",
            backend=("claude", "codex")[number % 2],
            last_used=at(number),
            title=f"walrus {number}" if number % 1000 == 0 else "",
            tags=[f"t{number % 10}"],
        )
        (folder / f"{head.id}.json").write_text(head.model_dump_json(), encoding="utf-8")
    page = store.page(SessionFilter(backend="codex", tag="t3"), limit=3, offset=1)
    assert ([head.id for head in page.sessions], page.total) == (["s09983", "s09973", "s09963"], 1000)
    hits = store.search("WALRUS", limit=2)
    assert ([hit.session.id for hit in hits.hits], hits.total) == (["s09000", "s08000"], 10)
    store.append_turn("s00007", TurnRecord(run_id="r", prompt="p"))
    assert store.page(limit=1).sessions[0].id == "s00007"
    assert store.page().total == 10_001


def test_old_sessions_are_cleaned_and_others_kept(store: SessionStore) -> None:
    now = datetime(2024, 1, 11, tzinfo=UTC)
    made(store, "old", 0, last_used="2024-01-01T00:00:00.000Z")
    made(store, "used", 0, last_used="2023-01-01T00:00:00.000Z")
    made(store, "new", 0, last_used="2024-01-10T00:00:00.000Z")
    assert store.clean(0, now) == []
    with store.turn_lock("used", "r"):
        assert store.clean(5, now) == ["old"]
        assert listed(store) == ["new", "used"]
    assert store.clean(5, now) == ["used"]
    assert store.clean(5, now) == []
    with pytest.raises(ClinvkError):
        store.clean(-1, now)


def test_temporary_files_of_dead_writers_are_cleaned(store: SessionStore, home: Path) -> None:
    made(store, "one")
    left = home / "sessions" / ".one.json.0abc.tmp"
    left.write_text("half", encoding="utf-8")
    store.clean(0, datetime.now(UTC))
    assert left.exists()
    store.clean(0, datetime(2999, 1, 1, tzinfo=UTC))
    assert not left.exists()


class Against(RuleBasedStateMachine):
    """The store against a dict, through all that changes a session."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.store = SessionStore(self.home)
        self.heads: dict[str, Session] = {}
        self.outputs: dict[str, list[str]] = {}
        self.runs = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(backend=st.sampled_from(["claude", "codex"]), title=st.text("abc ", max_size=4))
    def create(self, backend: str, title: str) -> None:
        head = self.store.create(Session(backend=backend, title=title, last_used=at(len(self.heads))))
        self.heads[head.id], self.outputs[head.id] = head, []

    @precondition(lambda self: bool(self.heads))
    @rule(pick=st.integers(0), output=st.text("abcé ", max_size=6))
    def append(self, pick: int, output: str) -> None:
        name = sorted(self.heads)[pick % len(self.heads)]
        self.runs += 1
        turn = TurnRecord(run_id=f"r{self.runs}", prompt="q", output=output, ended_at=at(self.runs))
        self.heads[name] = self.store.append_turn(name, turn)
        self.outputs[name].append(output)

    @precondition(lambda self: bool(self.heads))
    @rule(pick=st.integers(0), tag=st.sampled_from("xy"))
    def tag(self, pick: int, tag: str) -> None:
        name = sorted(self.heads)[pick % len(self.heads)]
        self.heads[name] = self.store.tag(name, [tag])

    @precondition(lambda self: bool(self.heads))
    @rule(pick=st.integers(0))
    def fork(self, pick: int) -> None:
        name = sorted(self.heads)[pick % len(self.heads)]
        fork = self.store.fork(name)
        self.heads[fork.id], self.outputs[fork.id] = fork, list(self.outputs[name])

    @precondition(lambda self: bool(self.heads))
    @rule(pick=st.integers(0))
    def delete(self, pick: int) -> None:
        name = sorted(self.heads)[pick % len(self.heads)]
        self.store.delete(name)
        del self.heads[name], self.outputs[name]

    @rule()
    def lose_the_cache(self) -> None:
        shutil.rmtree(self.home / "cache", ignore_errors=True)

    @invariant()
    def lists_what_there_is(self) -> None:
        order = sorted(self.heads.values(), key=lambda head: head.id)
        order.sort(key=lambda head: head.last_used, reverse=True)
        assert self.store.page(limit=1000) == (order, len(order))
        tagged = [head for head in order if "x" in head.tags]
        assert self.store.page(SessionFilter(tag="x"), limit=1000) == (tagged, len(tagged))

    @invariant()
    def finds_what_was_said(self) -> None:
        for word in ("a", "ab", "abc", "é"):
            held = {
                name
                for name, outputs in self.outputs.items()
                if word in self.heads[name].title or any(word in output for output in outputs)
            }
            assert {hit.session.id for hit in self.store.search(word, limit=1000).hits} == held


Against.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestAgainstAModel = Against.TestCase
