import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.sessions import turnlog
from clinvk.sessions.model import Session, TurnRecord, TurnUpdate
from clinvk.sessions.store import SessionStore


def filled(store: SessionStore, count: int, size: int = 10) -> str:
    session_id = store.create(Session(backend="claude")).id
    for at in range(1, count + 1):
        store.append_turn(session_id, TurnRecord(run_id=f"r{at}", prompt=f"p{at}", output="o" * size))
    return session_id


def turns_file(home: Path, session_id: str) -> Path:
    return home / "sessions" / f"{session_id}.turns.jsonl"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_text_survives(pairs: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        store = SessionStore(Path(folder))
        session_id = store.create(Session(backend="claude")).id
        for at, (prompt, output) in enumerate(pairs):
            store.append_turn(session_id, TurnRecord(run_id=f"r{at}", prompt=prompt, output=output))
        assert [(turn.prompt, turn.output) for turn in store.turns(session_id)] == pairs
        assert store.transcript(session_id, 10**6) == pairs


def test_what_is_no_text_is_replaced_and_stops_nothing(store: SessionStore) -> None:
    session_id = store.create(Session(backend="claude", title="a\ud800b")).id
    store.append_turn(session_id, TurnRecord(run_id="r1", prompt="x\udfffy"))
    assert store.load(session_id).title == "a?b"
    assert store.turns(session_id)[0].prompt == "x?y"


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 12), size=st.sampled_from([0, 10, 40_000]), offset=st.integers(0, 14), limit=st.integers(0, 5)
)
def test_a_page_of_turns_is_a_slice_from_the_first_on(count: int, size: int, offset: int, limit: int) -> None:
    with TemporaryDirectory() as folder:
        store = SessionStore(Path(folder))
        session_id = filled(store, count, size)
        numbers = list(range(1, count + 1))
        assert [turn.number for turn in store.turns(session_id, offset, limit)] == numbers[offset : offset + limit]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"")), max_size=8), st.booleans())
def test_lines_are_the_same_read_forward_and_backward(rows: list[bytes], torn: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(b"".join(row + b"\n" for row in rows) + (b"torn" if torn else b""))
        forward = list(turnlog.lines(path))
        assert [line.data for line in forward] == [row + b"\n" for row in rows] + ([b"torn"] if torn else [])
        assert path.read_bytes() == b"".join(line.data for line in forward)
        assert list(turnlog.lines_backward(path)) == forward[::-1]


def test_the_newest_turns_are_read_without_the_rest_of_the_file(store: SessionStore, home: Path) -> None:
    session_id = filled(store, 200, 5_000)
    path = turns_file(home, session_id)
    data = path.read_bytes()
    # What was before the last blocks is unreadable now; only a reader that goes there would notice.
    path.write_bytes(b"\n" * (len(data) - 200_000) + data[-200_000:])
    assert [turn.number for turn in store.turns(session_id, 190, 10)] == list(range(191, 201))
    assert [prompt for prompt, _ in store.transcript(session_id, 3 * 5_100)] == ["p198", "p199", "p200"]


def test_a_head_that_lags_behind_its_turns_catches_up(store: SessionStore, home: Path) -> None:
    session_id = filled(store, 1)
    head_file = home / "sessions" / f"{session_id}.json"
    before = head_file.read_bytes()
    after = store.append_turn(
        session_id, TurnRecord(run_id="r2", prompt="p", cost_usd=2.0), TurnUpdate(backend_session_id="native")
    )
    head_file.write_bytes(before)  # as a crash between line and head leaves it
    assert store.load(session_id) == after
    assert store.append_turn(session_id, TurnRecord(run_id="r2", prompt="p", cost_usd=2.0)) == after
    assert json.loads(head_file.read_text("utf-8"))["backend_session_id"] == "native"
    assert store.append_turn(session_id, TurnRecord(run_id="r3", prompt="p")).turn_count == 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_torn_last_line_is_dropped_and_the_next_turn_is_whole(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        home = Path(folder)
        store = SessionStore(home)
        session_id = filled(store, 2)
        head_file = home / "sessions" / f"{session_id}.json"
        head, path = head_file.read_bytes(), turns_file(home, session_id)
        whole = path.read_bytes()
        store.append_turn(session_id, TurnRecord(run_id="r3", prompt="lost é", output="x" * 50))
        line = path.read_bytes()[len(whole) :]
        cut = data.draw(st.integers(0, len(line) - 1) | st.just(len(line) - 1))
        path.write_bytes(whole + line[:cut])
        head_file.write_bytes(head)
        whole_but_for_its_newline = cut == len(line) - 1
        kept = ["r1", "r2", *(["r3"] if whole_but_for_its_newline else [])]
        assert [turn.run_id for turn in store.turns(session_id)] == kept
        assert store.warnings() == []
        store.append_turn(session_id, TurnRecord(run_id="r3", prompt="again"))
        store.append_turn(session_id, TurnRecord(run_id="r4", prompt="next"))
        third = "lost é" if whole_but_for_its_newline else "again"
        assert [(turn.number, turn.prompt) for turn in store.turns(session_id)][2:] == [(3, third), (4, "next")]
        assert [prompt for prompt, _ in store.transcript(session_id, 10**6)][2:] == [third, "next"]
        assert store.load(session_id).turn_count == 4


@pytest.mark.parametrize("damage", [b"\x00", b'{"number":2,'], ids=["zeros", "cut"])
def test_damaged_lines_in_the_middle_are_dropped_and_named(store: SessionStore, home: Path, damage: bytes) -> None:
    session_id = filled(store, 3)
    path = turns_file(home, session_id)
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage * 9 + b"\n" + third)
    assert [turn.number for turn in store.turns(session_id)] == [1, 3]
    assert [str(path) in warning for warning in store.warnings()] == [True]
    assert store.append_turn(session_id, TurnRecord(run_id="r4", prompt="p")).turn_count == 4


def test_a_transcript_keeps_whole_turns_within_its_room(store: SessionStore) -> None:
    session_id = filled(store, 4, size=8)  # ten characters a turn
    assert [prompt for prompt, _ in store.transcript(session_id, 29)] == ["p3", "p4"]
    assert [prompt for prompt, _ in store.transcript(session_id, 30)] == ["p2", "p3", "p4"]
    store.append_turn(session_id, TurnRecord(run_id="r5", prompt="q" * 50, output="a" * 50 + "end"))
    assert store.transcript(session_id, 20) == [("q" * 10, "aaaaaaaend")]
    assert store.transcript(session_id, 0) == [("", "")]


def test_a_session_without_turns_has_an_empty_transcript(store: SessionStore) -> None:
    session_id = filled(store, 0)
    assert store.turns(session_id) == []
    assert store.transcript(session_id, 100) == []
