import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest

from clinvk.errors import ClinvkError
from clinvk.events import TokenUsage
from clinvk.sessions.model import Session, TurnError, TurnRecord, TurnUpdate
from clinvk.sessions.store import SessionStore


def turn(run_id: str, **fields: Any) -> TurnRecord:
    return TurnRecord.model_validate({"run_id": run_id, "prompt": f"ask {run_id}", "output": f"say {run_id}", **fields})


def test_a_stored_session_is_read_back_whole(store: SessionStore) -> None:
    head = Session(
        backend="claude",
        working_dir="/work",
        model="opus",
        initial_prompt="Fix the\nbug",
        options={"sandbox_mode": "read-only"},
        metadata={"ticket": [1, None, {"a": "é"}]},
        tags=["a"],
    )
    stored = store.create(head)
    assert stored == head.model_copy(update={"title": "Fix the"})
    assert store.load(head.id) == stored


def test_a_long_first_prompt_is_shortened_in_the_head_and_whole_in_the_turn(store: SessionStore) -> None:
    prompt = "x" * 5000
    head = store.create(Session(backend="codex", initial_prompt=prompt))
    store.append_turn(head.id, TurnRecord(run_id="r1", prompt=prompt))
    head = store.load(head.id)
    assert (len(head.initial_prompt), len(head.title)) == (2000, 80)
    assert store.turns(head.id)[0].prompt == prompt


def test_files_are_private_and_where_the_contract_says(store: SessionStore, home: Path) -> None:
    head = store.create(Session(backend="claude"))
    store.append_turn(head.id, turn("r1"))
    with store.turn_lock(head.id):
        store.search("say")
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in [home, *home.rglob("*")] if p.is_dir()} == {0o700}
    assert sorted(path.name for path in (home / "sessions").iterdir()) == [f"{head.id}.json", f"{head.id}.turns.jsonl"]
    assert json.loads((home / "sessions" / f"{head.id}.json").read_text(encoding="utf-8"))["id"] == head.id


def test_an_id_that_is_taken_is_refused(store: SessionStore) -> None:
    head = store.create(Session(backend="claude", title="first"))
    with pytest.raises(ClinvkError, match="exists already"):
        store.create(Session(id=head.id, backend="claude", title="second"))
    assert store.load(head.id).title == "first"


def test_a_turn_brings_the_head_up_to_date(store: SessionStore) -> None:
    head = store.create(Session(backend="claude", created_at="2020-01-01T00:00:00.000Z"))
    assert head.status == "idle"
    store.append_turn(
        head.id,
        turn("r1", usage=TokenUsage(input_tokens=10, cached_tokens=4), cost_usd=0.5, model="opus-4"),
        TurnUpdate(backend_session_id="native-1", native={"version": "2.1"}),
    )
    failed = turn(
        "r2",
        status="failed",
        usage=TokenUsage(input_tokens=5, output_tokens=2),
        error=TurnError(code="timeout", message="too slow"),
        ended_at="2999-01-01T00:00:00.000Z",
    )
    returned = store.append_turn(head.id, failed)
    loaded = store.load(head.id)
    assert returned == loaded
    assert loaded.status == "failed"
    assert loaded.turn_count == 2
    assert loaded.token_usage == TokenUsage(input_tokens=15, output_tokens=2, cached_tokens=4)
    assert loaded.cost_usd == 0.5
    assert loaded.model == "opus-4"
    assert loaded.last_used == "2999-01-01T00:00:00.000Z"
    assert (loaded.backend_session_id, loaded.native) == ("native-1", {"version": "2.1"})
    assert loaded.initial_prompt == "ask r1"
    assert [(one.number, one.run_id) for one in store.turns(head.id)] == [(1, "r1"), (2, "r2")]
    assert store.turns(head.id)[1].error == TurnError(code="timeout", message="too slow")


def test_a_turn_that_names_no_model_leaves_the_one_that_is_known(store: SessionStore) -> None:
    head = store.create(Session(backend="claude", model="opus"))
    assert store.append_turn(head.id, turn("r1"), TurnUpdate(model=None)).model == "opus"


def test_a_session_is_founded_together_with_its_first_turn(store: SessionStore) -> None:
    head = Session(id="new", backend="claude", initial_prompt="ask r1", tags=["t"])
    assert not store.exists("new")
    stored = store.found(head, turn("r1"), TurnUpdate(backend_session_id="native"))
    assert store.exists("new")
    assert store.load("new") == stored
    assert (stored.status, stored.turn_count, stored.title, stored.tags) == ("active", 1, "ask r1", ["t"])
    assert stored.backend_session_id == "native"
    assert [one.number for one in store.turns("new")] == [1]
    assert store.page().total == 1
    with pytest.raises(ClinvkError, match="exists already"):
        store.found(head, turn("r2"))


def test_founding_again_after_a_crash_leaves_one_first_turn(store: SessionStore, home: Path) -> None:
    head = Session(id="new", backend="claude")
    store.found(head, turn("r1"))
    (home / "sessions" / "new.json").unlink()  # the turn was written, its head was not
    assert store.page().total == 0
    assert store.found(head, turn("r1")).turn_count == 1
    assert [one.run_id for one in store.turns("new")] == ["r1"]


def test_the_same_run_is_appended_once(store: SessionStore) -> None:
    head = store.create(Session(backend="claude"))
    for run_id in ("r1", "r1", "r2", "r1", "r2"):
        store.append_turn(head.id, turn(run_id, cost_usd=1.0))
    assert [one.run_id for one in store.turns(head.id)] == ["r1", "r2"]
    assert store.load(head.id).cost_usd == 2.0


def test_a_prompt_that_names_a_run_is_not_taken_for_it(store: SessionStore) -> None:
    head = store.create(Session(backend="claude"))
    store.append_turn(head.id, turn("r1", prompt='{"run_id":"r9"}'))
    store.append_turn(head.id, turn("r2"))
    assert store.append_turn(head.id, turn("r9")).turn_count == 3


def test_a_turn_cannot_set_what_the_store_keeps(store: SessionStore) -> None:
    head = store.create(Session(backend="claude"))
    with pytest.raises(ValueError, match="turn_count"):
        store.append_turn(head.id, turn("r1"), cast("TurnUpdate", {"turn_count": 9}))
    assert store.load(head.id).turn_count == 0


def test_fields_of_a_newer_version_are_kept(store: SessionStore, home: Path) -> None:
    head = store.create(Session(backend="claude"))
    path = home / "sessions" / f"{head.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "colour": "blue"}), encoding="utf-8")
    store.append_turn(head.id, turn("r1"))
    store.tag(head.id, ["x"])
    assert json.loads(path.read_text("utf-8"))["colour"] == "blue"


def test_tags_and_title_are_edited(store: SessionStore) -> None:
    head = store.create(Session(backend="claude", tags=["a"]))
    assert store.tag(head.id, ["b", "a", " b "]).tags == ["a", "b"]
    assert store.untag(head.id, ["a", "zzz"]).tags == ["b"]
    assert store.rename(head.id, "  New\n title ").title == "New title"
    assert store.load(head.id) == head.model_copy(update={"tags": ["b"], "title": "New title"})


@pytest.mark.parametrize("tag", ["", "  ", "a\nb", "x" * 101])
def test_a_tag_that_cannot_be_shown_is_refused(store: SessionStore, tag: str) -> None:
    head = store.create(Session(backend="claude"))
    with pytest.raises(ClinvkError) as caught:
        store.tag(head.id, [tag])
    assert caught.value.failure.code == "invalid_request"
    assert store.load(head.id).tags == []


def test_an_edit_cannot_change_the_id(store: SessionStore) -> None:
    head = store.create(Session(backend="claude"))
    store.edit(head.id, lambda old: old.model_copy(update={"id": "other", "metadata": {"a": 1}}))
    assert store.load(head.id).metadata == {"a": 1}


def test_an_id_is_found_by_its_beginning(store: SessionStore) -> None:
    for name in ("abc1", "abc2", "abcd-e", "x1"):
        store.create(Session(id=name, backend="claude"))
    assert store.resolve("abcd") == "abcd-e"
    assert store.resolve("abc1") == "abc1"
    with pytest.raises(ClinvkError) as ambiguous:
        store.resolve("abc")
    assert ambiguous.value.failure.code == "invalid_request"
    assert ambiguous.value.failure.details["candidates"] == ["abc1", "abc2", "abcd-e"]
    with pytest.raises(ClinvkError) as missing:
        store.resolve("abc9")
    assert missing.value.failure.code == "session_not_found"
    assert missing.value.failure.hint == "nearest: abc1, abc2, abcd-e; sessions(action='list') shows what there is"


def test_an_id_that_is_whole_wins_over_those_that_begin_with_it(store: SessionStore) -> None:
    store.create(Session(id="ab", backend="claude"))
    store.create(Session(id="abc", backend="claude"))
    assert store.resolve("ab") == "ab"


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "A", "a.b", "-a", "a\0", "é", "a" * 65, "*"])
def test_an_id_cannot_leave_the_folder(store: SessionStore, bad: str) -> None:
    for use in (store.resolve, store.load, store.delete, store.fork, store.is_running, store.turns):
        with pytest.raises(ClinvkError) as caught:
            use(bad)
        assert caught.value.failure.code == "invalid_request"
    with pytest.raises(ClinvkError):
        store.create(Session(id=bad, backend="claude"))
    with pytest.raises(ClinvkError), store.turn_lock(bad):
        pass


def test_a_deleted_session_is_gone(store: SessionStore, home: Path) -> None:
    head = store.create(Session(backend="claude"))
    store.append_turn(head.id, turn("r1"))
    store.delete(head.id)
    assert list((home / "sessions").iterdir()) == []
    assert store.page() == ([], 0)
    for use in (store.load, store.delete, store.fork, store.turns):
        with pytest.raises(ClinvkError) as caught:
            use(head.id)
        assert caught.value.failure.code == "session_not_found"
    with pytest.raises(ClinvkError):
        store.append_turn(head.id, turn("r2"))


def test_a_fork_goes_its_own_way(store: SessionStore) -> None:
    head = store.create(Session(backend="codex", options={"model": "o"}, tags=["t"]))
    store.append_turn(head.id, turn("r1"), TurnUpdate(backend_session_id="native", native={"usage": 1}))
    with store.turn_lock(head.id, "r2"):
        fork = store.fork(head.id)
    assert (fork.parent_id, fork.backend_session_id) == (head.id, None)
    assert fork.native == {"usage": 1, "fork_of": "native"}
    assert (fork.options, fork.tags, fork.turn_count) == ({"model": "o"}, ["t"], 1)
    store.append_turn(fork.id, turn("f2"))
    store.append_turn(head.id, turn("r2"))
    assert [one.run_id for one in store.turns(fork.id)] == ["r1", "f2"]
    assert [one.run_id for one in store.turns(head.id)] == ["r1", "r2"]


def test_a_fork_of_a_fork_that_never_ran_knows_the_native_conversation(store: SessionStore) -> None:
    head = store.create(Session(backend="codex", backend_session_id="native"))
    assert store.fork(store.fork(head.id).id).native == {"fork_of": "native"}
    plain = store.create(Session(backend="codex"))
    assert store.fork(plain.id).native == {}


def test_a_session_exports_as_markdown_and_json(store: SessionStore) -> None:
    head = store.create(Session(backend="claude", title="Fix it", tags=["a", "b"]))
    store.append_turn(head.id, turn("r1", prompt="one\n\ntwo", output="# done é", cost_usd=0.25))
    failure = TurnError(code="timeout", message="slow")
    store.append_turn(head.id, turn("r2", status="failed", output="", error=failure))
    text = store.export(head.id)
    for part in ("# Fix it", "- Tags: a, b", "- Cost: $0.2500", "> one\n>\n> two", "# done é", "**timeout**: slow"):
        assert part in text
    whole = json.loads(store.export(head.id, "json"))
    assert Session.model_validate(whole["session"]) == store.load(head.id)
    assert [one["run_id"] for one in whole["turns"]] == ["r1", "r2"]
    with pytest.raises(ClinvkError, match="cannot export as 'pdf'"):
        store.export(head.id, "pdf")
