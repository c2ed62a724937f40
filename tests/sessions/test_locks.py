import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.sessions.model import Session, SessionFilter, TurnRecord
from clinvk.sessions.store import SessionStore

SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


def test_a_second_run_of_a_session_is_refused_and_told_which_is_first(store: SessionStore) -> None:
    session_id = store.create(Session(backend="claude")).id
    with store.turn_lock(session_id, "run-one"):
        assert store.is_running(session_id)
        with pytest.raises(ClinvkError) as caught, store.turn_lock(session_id, "run-two"):
            pass
        failure = caught.value.failure
        assert (failure.code, failure.retryable) == ("session_busy", True)
        assert session_id in failure.message
        assert failure.details["run_id"] == "run-one"
        assert "fork" in (failure.hint or "")
    assert not store.is_running(session_id)
    with store.turn_lock(session_id, "run-three"):
        pass


def test_looking_whether_a_session_runs_creates_and_keeps_nothing(store: SessionStore, home: Path) -> None:
    session_id = store.create(Session(backend="claude")).id
    before = sorted((home / "locks").iterdir())
    assert not store.is_running(session_id)
    assert sorted((home / "locks").iterdir()) == before


def test_sessions_do_not_wait_for_each_other(store: SessionStore) -> None:
    ids = [store.create(Session(backend="claude")).id for _ in range(3)]
    with store.turn_lock(ids[0]), store.turn_lock(ids[1]):
        assert [store.is_running(one) for one in ids] == [True, True, False]


def test_the_lock_lives_on_in_a_process_that_was_given_the_descriptor(store: SessionStore) -> None:
    session_id = store.create(Session(backend="claude")).id
    with store.turn_lock(session_id, "run-one") as fd:
        assert not os.get_inheritable(fd)
        keeper = subprocess.Popen(
            [sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd]
        )
    with keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        assert store.is_running(session_id)
        with pytest.raises(ClinvkError), store.turn_lock(session_id):
            pass
        keeper.kill()
        keeper.wait(10)
        assert not store.is_running(session_id)


def test_a_running_session_is_shown_so_filtered_so_and_never_deleted(store: SessionStore) -> None:
    ids = [store.create(Session(backend="claude")).id for _ in range(3)]
    for session_id in ids:
        store.append_turn(session_id, TurnRecord(run_id=f"r-{session_id}", prompt="p"))
    with store.turn_lock(ids[1], "r"):
        assert store.load(ids[1]).status == "running"
        assert [head.id for head in store.page(SessionFilter(status="running")).sessions] == [ids[1]]
        active = store.page(SessionFilter(status="active"))
        assert ({head.id for head in active.sessions}, active.total) == ({ids[0], ids[2]}, 2)
        with pytest.raises(ClinvkError) as caught:
            store.delete(ids[1])
        assert caught.value.failure.code == "session_busy"
        store.tag(ids[1], ["kept"])
    assert store.load(ids[1]).status == "active"
    assert store.page(SessionFilter(status="running")).total == 0
    store.delete(ids[1])


def test_a_running_session_is_found_when_the_index_is_new(store: SessionStore, home: Path) -> None:
    ids = [store.create(Session(backend="claude")).id for _ in range(3)]
    with store.turn_lock(ids[2], "r"):
        for file in (home / "cache").iterdir():
            file.unlink()
        assert [head.id for head in store.page(SessionFilter(status="running")).sessions] == [ids[2]]


def test_lock_files_stay(store: SessionStore, home: Path) -> None:
    session_id = store.create(Session(backend="claude")).id
    with store.turn_lock(session_id):
        pass
    store.delete(session_id)
    assert (home / "locks" / f"turn-{session_id}.lock").exists()
    assert list((home / "locks").glob("head-*.lock"))
