import subprocess
import sys
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.sessions.model import Session, TurnRecord
from clinvk.sessions.store import SessionStore


def damaged(home: Path, name: str) -> list[Path]:
    return sorted((home / "sessions").glob(f"{name}.json.damaged-*"))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b'{"id": "one"}', b'{"backend": 3}', b"null"])
def test_a_damaged_head_is_set_aside_and_named(store: SessionStore, home: Path, data: bytes) -> None:
    for name in ("one", "two"):
        store.create(Session(id=name, backend="claude"))
        store.append_turn(name, TurnRecord(run_id=f"{name}-1", prompt="p"))
    head = home / "sessions" / "one.json"
    beside = home / "beside"
    beside.write_bytes(data)
    beside.replace(head)
    assert [one.id for one in store.page().sessions] == ["two"]
    (aside,) = damaged(home, "one")
    assert aside.read_bytes() == data
    (warning,) = store.warnings()
    assert "one.json is damaged" in warning
    assert str(aside) in warning
    assert store.warnings() == []
    assert (home / "sessions" / "one.turns.jsonl").stat().st_size > 0
    with pytest.raises(ClinvkError) as caught:
        store.load("one")
    assert caught.value.failure.code == "session_not_found"
    assert aside.name in caught.value.failure.message


def test_a_repaired_head_comes_back(store: SessionStore, home: Path) -> None:
    store.create(Session(id="one", backend="claude"))
    store.append_turn("one", TurnRecord(run_id="r1", prompt="p"))
    head = home / "sessions" / "one.json"
    good = head.read_bytes()
    head.write_bytes(good[:-20])
    with pytest.raises(ClinvkError):
        store.load("one")
    (aside,) = damaged(home, "one")
    aside.write_bytes(good)
    aside.rename(head)
    assert store.page().total == 1
    assert [turn.run_id for turn in store.turns("one")] == ["r1"]


def test_a_head_damaged_in_place_is_noticed_when_it_is_shown(store: SessionStore, home: Path) -> None:
    store.create(Session(id="one", backend="claude"))
    assert store.page().total == 1
    (home / "sessions" / "one.json").write_bytes(b"{")
    assert store.page().sessions == []
    assert len(store.warnings()) == 1
    assert store.page().total == 0


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder", encoding="utf-8")
    for home in (blocker, blocker / "below"):
        store = SessionStore(home)
        with pytest.raises(ClinvkError, match=r"cannot write to .*file"), store.turn_lock("abc"):
            pass
        with pytest.raises(ClinvkError, match=r"cannot write to .*file") as caught:
            store.create(Session(backend="claude"))
        assert caught.value.failure.code == "internal"
        assert "CLINVK_HOME" in (caught.value.failure.hint or "")


def test_a_home_that_cannot_be_read_is_an_error_not_an_empty_list(home: Path) -> None:
    home.mkdir()
    (home / "sessions").write_text("not a folder", encoding="utf-8")
    with pytest.raises(ClinvkError, match=r"cannot read .*sessions"):
        SessionStore(home).page()


# The size limit of files stands for a full disk: the kernel writes what fits, then refuses.
FULL_DISK = """
import resource, sys
from pathlib import Path
from clinvk.errors import ClinvkError
from clinvk.sessions.model import Session, TurnRecord
from clinvk.sessions.store import SessionStore
store = SessionStore(Path(sys.argv[1]))
store.create(Session(id="one", backend="claude"))
store.append_turn("one", TurnRecord(run_id="r1", prompt="p"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for use in (
    lambda: store.append_turn("one", TurnRecord(run_id="r2", prompt="x" * 10_000)),
    lambda: store.edit("one", lambda head: head.model_copy(update={"metadata": {"a": "x" * 10_000}})),
    lambda: store.create(Session(id="two", backend="claude", metadata={"a": "x" * 10_000})),
):
    try:
        use()
    except ClinvkError as error:
        print(error.failure.code, error)
store.append_turn("one", TurnRecord(run_id="r3", prompt="small"))
"""


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(store: SessionStore, home: Path) -> None:
    argv = [sys.executable, "-c", FULL_DISK, str(home)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    said = done.stdout.splitlines()
    assert len(said) == 3
    assert all(line.startswith("internal cannot write to ") and "File too large" in line for line in said)
    assert sorted(path.name for path in (home / "sessions").iterdir()) == ["one.json", "one.turns.jsonl"]
    assert len((home / "sessions" / "one.turns.jsonl").read_bytes().splitlines()) == 2
    assert [turn.run_id for turn in store.turns("one")] == ["r1", "r3"]
    head = store.load("one")
    assert (head.turn_count, head.metadata) == (2, {})
