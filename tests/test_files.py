"""Files as clinvk keeps them."""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.executor.runs import RunRecord, RunStore
from clinvk.files import is_held, locked, private_folder, reading, taken, write_whole, writing
from clinvk.sessions.model import Session
from clinvk.sessions.store import SessionStore
from fakes.unprivileged import unprivileged


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = place / "file"
    write_whole(path, b"old", sync=True)
    write_whole(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    folder = place / "folder"
    folder.mkdir()
    with pytest.raises(ClinvkError):
        write_whole(folder, b"x")
    assert sorted(place.iterdir()) == [path, folder]


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClinvkError, match="No space left"):
        write_whole(path, b"new", sync=True)
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["file"]
    assert path.read_bytes() == b"old"


def test_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    private_folder(tmp_path / "a" / "b")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


def test_an_error_of_the_system_names_the_path_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ClinvkError) as unwritten:
        private_folder(file / "folder")
    with pytest.raises(ClinvkError) as unread, reading(tmp_path / "missing"):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(ClinvkError) as full, writing(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert unwritten.value.failure.message == f"cannot write to {file / 'folder'}: {file} is not a folder"
    assert unread.value.failure.message == f"cannot read {tmp_path / 'missing'}: No such file or directory"
    assert full.value.failure.details == {"path": str(file), "errno": errno.ENOSPC}
    assert {error.value.failure.code for error in (unwritten, unread, full)} == {"internal"}
    assert all("CLINVK_HOME" in str(error.value.failure.hint) for error in (unwritten, unread, full))


def test_a_lock_is_had_by_one_and_seen_by_all_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert not is_held(path)
    assert (taken(first, path), taken(second, path), is_held(path)) == (True, False, True)
    os.close(first)
    assert not is_held(path)
    assert taken(second, path)
    os.close(second)


def test_a_file_system_without_locks_is_an_error_that_names_the_file_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT)

    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refused)
    store = RunStore(tmp_path)
    uses: list[Callable[[], object]] = [
        lambda: locked(lock, path),
        lambda: taken(lock, path),
        lambda: is_held(path),
        lambda: store.create(RunRecord(id="a1", kind="prompt", created_at=0)),
        lambda: SessionStore(tmp_path).create(Session(backend="claude")),
        lambda: SessionStore(tmp_path).count(),
    ]
    for use in uses:
        with pytest.raises(ClinvkError, match=f"cannot lock {tmp_path}/.*lock: Operation not supported") as refusal:
            use()
        assert "no file locks" in str(refusal.value.failure.hint)
    os.close(lock)
    assert list(store.folder.iterdir()) == []


def test_who_only_looks_does_not_keep_a_lock_from_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    looker, taker = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(looker, fcntl.LOCK_SH)

    def let_go(_secs: float) -> None:
        fcntl.flock(looker, fcntl.LOCK_UN)

    monkeypatch.setattr(time, "sleep", let_go)
    assert taken(taker, path)
    os.close(looker)
    os.close(taker)


def test_a_home_that_may_not_be_entered_is_an_error_that_names_it_and_not_an_empty_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("runs", "sessions"):
        (home / name).mkdir(parents=True)
    home.chmod(0)
    uses: list[Callable[[], object]] = [
        lambda: SessionStore(home).exists("abc"),
        lambda: SessionStore(home).resolve("abc"),
        lambda: RunStore(home).ids(),
        lambda: RunStore(home).create(RunRecord(id="a1", kind="prompt", created_at=0)),
        lambda: private_folder(home / "below" / "it"),
    ]
    with unprivileged():
        for use in uses:
            with pytest.raises(ClinvkError, match="Permission denied") as refused:
                use()
            assert str(home) in refused.value.failure.message
    home.chmod(0o700)
