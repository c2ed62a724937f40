"""What is kept of finished runs for the next process: used where it is there, never believed against the folders."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.executor.finished import FEW, browsing
from clinvk.executor.runs import RunRecord, RunState, RunStore
from clinvk.response import PromptResult

IDS = [f"{number:04x}" for number in range(FEW + 5)]
LONG_AGO = time.time() - 3600
CACHE = Path("cache", "runs.sqlite")


def begin(store: RunStore, run_id: str) -> int:
    return store.create(RunRecord(id=run_id, kind="prompt", created_at=LONG_AGO, backend="claude", title=run_id))


def end(store: RunStore, run_id: str, output: str = "hello") -> None:
    result = PromptResult(run_id=run_id, status="completed", backend="claude", output=output, output_chars=len(output))
    store.finish(run_id, result, sync=False)


def aged(store: RunStore, run_id: str) -> None:
    """As if nothing had happened to the folder for an hour."""
    os.utime(store.path(run_id), (LONG_AGO, LONG_AGO))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Finished runs, which one process has listed."""
    store = RunStore(tmp_path)
    for run_id in IDS:
        os.close(begin(store, run_id))
        end(store, run_id)
        aged(store, run_id)
    look(store)
    return tmp_path


def look(store: RunStore) -> tuple[set[str], dict[str, RunState]]:
    """Which runs need not be read, and what all of them look like."""
    with browsing(store) as ids:
        known = {run_id for run_id in ids if store.remembered(run_id) is not None}
        return known, {run_id: store.state(run_id) for run_id in ids}


def test_what_one_process_has_read_the_next_one_knows(home: Path) -> None:
    known, states = look(RunStore(home))
    assert (known, sorted(states)) == (set(IDS), IDS)
    assert states == {run_id: RunStore(home).state(run_id) for run_id in IDS}
    assert (home / CACHE).stat().st_mode & 0o777 == 0o600


def test_few_runs_are_read_without_a_cache(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for run_id in IDS[: FEW - 1]:
        os.close(begin(store, run_id))
        end(store, run_id)
        aged(store, run_id)
    assert len(look(store)[1]) == FEW - 1
    assert not (tmp_path / CACHE).exists()


def test_a_mark_that_was_set_since_is_seen(home: Path) -> None:
    RunStore(home).mark_read(IDS[3])
    known, states = look(RunStore(home))
    assert IDS[3] not in known
    assert [run_id for run_id in IDS if not states[run_id].unread] == [IDS[3]]


def test_a_mark_that_is_set_while_others_look_is_seen_by_the_next(home: Path) -> None:
    (home / CACHE).unlink()
    store = RunStore(home)
    with browsing(store) as ids:
        for run_id in ids:
            store.state(run_id)
        RunStore(home).mark_read(IDS[3])
    _, states = look(RunStore(home))
    assert [run_id for run_id in IDS if not states[run_id].unread] == [IDS[3]]


def test_a_result_that_was_replaced_is_read_again(home: Path) -> None:
    end(RunStore(home), IDS[3], "another answer")
    known, states = look(RunStore(home))
    result = states[IDS[3]].result
    assert known == set(IDS) - {IDS[3]}
    assert result is not None
    assert result["output_chars"] == len("another answer")


def test_a_folder_that_has_just_changed_is_read_again_as_its_next_change_might_not_show(home: Path) -> None:
    store = RunStore(home)
    store.mark_read(IDS[3])
    look(store)
    assert look(RunStore(home))[0] == set(IDS) - {IDS[3]}


def test_a_run_that_goes_on_is_looked_at_each_time(home: Path) -> None:
    store = RunStore(home)
    lock = begin(store, "running1")
    aged(store, "running1")
    assert [look(RunStore(home))[1]["running1"].status for _ in range(2)] == ["running", "running"]
    os.close(lock)
    assert look(RunStore(home))[1]["running1"].status == "unsettled"


def test_a_run_that_is_gone_is_gone(home: Path) -> None:
    RunStore(home).delete(IDS[3])
    assert sorted(look(RunStore(home))[1]) == [run_id for run_id in IDS if run_id != IDS[3]]
    with sqlite3.connect(home / CACHE) as db:
        assert db.execute("SELECT count(*) FROM runs WHERE id = ?", [IDS[3]]).fetchone() == (0,)


def test_a_run_that_another_process_removed_is_not_found_and_not_remembered(home: Path) -> None:
    read, recalled = RunStore(home), RunStore(home)
    for run_id in IDS:
        read.state(run_id)
    with browsing(recalled):
        for run_id in IDS[3:5]:
            RunStore(home).delete(run_id)
    for store in (read, recalled):
        with pytest.raises(ClinvkError) as refusal:
            store.state(IDS[3])
        assert refusal.value.failure.code == "run_not_found"
        with browsing(store) as ids:
            assert IDS[4] not in ids
        assert [store.brief(IDS[4]), store.remembered(IDS[4])] == [None, None]
        assert sorted(look(store)[1]) == [run_id for run_id in IDS if run_id not in IDS[3:5]]


def test_a_copy_that_took_the_place_of_a_run_is_read(home: Path) -> None:
    store = RunStore(home)
    store.delete(IDS[3])
    os.close(begin(store, IDS[3]))
    end(store, IDS[3], "restored")
    aged(store, IDS[3])
    result = look(RunStore(home))[1][IDS[3]].result
    assert result is not None
    assert result["output_chars"] == len("restored")


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _damaged_rows(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET state = substr(state, 1, 40)")


def _another_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE runs")
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("damage", [_garbage, _torn, _damaged_rows, _another_version, Path.unlink])
def test_a_cache_that_is_damaged_or_gone_is_made_anew(home: Path, damage: Callable[[Path], None]) -> None:
    expected = {run_id: RunStore(home).state(run_id) for run_id in IDS}
    damage(home / CACHE)
    assert look(RunStore(home))[1] == expected
    known, states = look(RunStore(home))
    assert (known, states) == (set() if damage is _damaged_rows else set(IDS), expected)
    assert (home / CACHE).stat().st_mode & 0o777 == 0o600


def test_a_brief_tells_what_a_state_would(home: Path) -> None:
    store = RunStore(home)
    with browsing(store) as ids:
        briefs = {run_id: store.brief(run_id) for run_id in ids}
        RunStore(home).mark_read(IDS[3])
        for run_id in ids:
            brief, again = briefs[run_id], store.brief(run_id)
            assert brief is not None
            assert again == brief._replace(unread=run_id != IDS[3])
            state = store.state(run_id)
            assert (state.record.created_at, state.record.parent_id) == (brief.created_at, brief.parent_id)
            assert (state.status, state.unread) == (brief.status, run_id != IDS[3])
            assert store.brief(run_id) is None  # from here on there is a state


def test_where_no_cache_can_be_kept_the_folders_are_read(home: Path) -> None:
    for path in (home / "cache").iterdir():
        path.unlink()
    (home / "cache").rmdir()
    (home / "cache").write_text("in the way")
    assert sorted(look(RunStore(home))[1]) == IDS


def test_many_who_look_at_once_while_runs_are_read_and_removed_see_the_truth(home: Path) -> None:
    wrong: list[str] = []
    marked, removed, over = IDS[:5], IDS[5:10], threading.Event()

    def keep_looking() -> None:
        while not over.is_set():
            read_before = [run_id for run_id in marked if (home / "runs" / run_id / "read").exists()]
            store = RunStore(home)
            with browsing(store) as ids:
                unread = [run_id for run_id in set(ids) - set(removed) if store.state(run_id).unread]
            wrong.extend(set(unread) & set(read_before))

    lookers = [threading.Thread(target=keep_looking) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for run_id, gone in zip(marked, removed, strict=True):
        RunStore(home).mark_read(run_id)
        aged(RunStore(home), run_id)
        RunStore(home).delete(gone)
        look(RunStore(home))
    over.set()
    for looker in lookers:
        looker.join(60)
    _, states = look(RunStore(home))
    assert (wrong, sorted(states)) == ([], [run_id for run_id in IDS if run_id not in removed])
    assert [run_id for run_id in states if not states[run_id].unread] == marked
