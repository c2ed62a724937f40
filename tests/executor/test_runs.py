"""Runs on disk: what state they are in, whoever asks, and whatever somebody did to the files."""

import fcntl
import json
import os
import threading
import time
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.executor.process import stop, supervisor_alive
from clinvk.executor.proctree import start_time
from clinvk.executor.runs import LISTED, RunRecord, RunStore
from clinvk.response import PromptResult


def record(run_id: str = "abcd1234", **more: object) -> RunRecord:
    return RunRecord.model_validate(
        {"id": run_id, "kind": "prompt", "created_at": time.time(), "backend": "claude", "request": {"prompt": "hi"}}
        | more
    )


def result(run_id: str = "abcd1234") -> PromptResult:
    return PromptResult(run_id=run_id, status="completed", backend="claude", output="hello")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def test_a_run_is_running_while_its_lock_is_held_and_unsettled_when_it_was_let_go(store: RunStore) -> None:
    lock = store.create(record())
    assert (store.state("abcd1234").status, store.is_driven("abcd1234")) == ("running", True)
    os.close(lock)
    assert (store.state("abcd1234").status, store.is_driven("abcd1234")) == ("unsettled", False)


def test_a_run_with_a_result_has_ended_even_while_its_lock_is_held(store: RunStore) -> None:
    lock = store.create(record())
    store.finish("abcd1234", result(), sync=True)
    state = store.state("abcd1234")
    os.close(lock)
    assert (state.status, state.unread, store.result("abcd1234")) == ("completed", True, result().model_dump())
    assert (state.record.id, state.record.request) == ("abcd1234", {})  # what is long stays on disk
    assert state.result == {name: value for name, value in result().model_dump().items() if name in LISTED}


def test_the_folder_and_its_files_are_private(store: RunStore) -> None:
    os.close(store.create(record()))
    store.mark("abcd1234", "handed")
    folder = store.path("abcd1234")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "run.lock": 0o600,
        "request.json": 0o600,
        "handed": 0o600,
    }


def test_reading_marks_are_seen_by_every_process(store: RunStore, tmp_path: Path) -> None:
    os.close(store.create(record()))
    store.finish("abcd1234", result(), sync=False)
    other = RunStore(tmp_path)
    assert (store.state("abcd1234").unread, other.state("abcd1234").unread) == (True, True)
    other.mark("abcd1234", "read")
    other.mark("abcd1234", "read")
    assert (store.state("abcd1234").unread, other.state("abcd1234").unread) == (False, False)


def test_an_id_is_found_by_its_beginning(store: RunStore) -> None:
    for run_id in ("abcd1234", "abcd9999", "ab"):
        os.close(store.create(record(run_id)))
    assert [store.resolve(prefix) for prefix in ("abcd1", "ab", "abcd9999")] == ["abcd1234", "ab", "abcd9999"]


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("abcd", "invalid_request"),
        ("ffff", "run_not_found"),
        ("", "run_not_found"),
        ("../..", "run_not_found"),
        (".", "run_not_found"),
        ("*", "run_not_found"),
        ("abcd1234/..", "run_not_found"),
        ("ａｂｃｄ1234", "run_not_found"),  # noqa: RUF001 - full-width letters are alphanumeric, too
    ],
)
def test_an_id_that_names_no_run_or_several_is_refused(store: RunStore, prefix: str, code: str) -> None:
    for run_id in ("abcd1234", "abcd9999"):
        os.close(store.create(record(run_id)))
    with pytest.raises(ClinvkError) as refused:
        store.resolve(prefix)
    assert refused.value.failure.code == code


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"id": 7}', b"\xff\xfe"])
def test_a_damaged_record_is_an_error_that_names_the_folder(store: RunStore, damage: bytes) -> None:
    os.close(store.create(record()))
    (store.path("abcd1234") / "request.json").write_bytes(damage)
    with pytest.raises(ClinvkError) as refused:
        store.state("abcd1234")
    assert str(store.path("abcd1234")) in refused.value.failure.message


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"{}", b'{"status": "nonsense"}', b'{"status": []}'])
def test_a_damaged_result_is_none(store: RunStore, damage: bytes) -> None:
    os.close(store.create(record()))
    (store.path("abcd1234") / "result.json").write_bytes(damage)
    assert store.result("abcd1234") is None
    assert store.state("abcd1234").status == "unsettled"


def test_two_who_look_at_once_do_not_take_each_other_for_the_driver(store: RunStore) -> None:
    os.close(store.create(record()))
    looking = os.open(store.path("abcd1234") / "run.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not store.is_driven("abcd1234")
    os.close(looking)


def test_many_readers_see_a_run_begin_and_end_and_nothing_else(store: RunStore, tmp_path: Path) -> None:
    seen: list[str] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                reader = RunStore(tmp_path)
                seen.extend(reader.state(run_id).status for run_id in reader.ids())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        run_id = f"run{number}"
        lock = store.create(record(run_id))
        store.finish(run_id, result(run_id), sync=False)
        os.close(lock)
    ended.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(seen) <= {"running", "completed"}


def test_only_one_of_many_owns_a_run_that_nobody_drives(store: RunStore) -> None:
    os.close(store.create(record()))
    with store.owned("abcd1234") as first, store.owned("abcd1234") as second:
        assert first is not None
        assert second is None
    with store.owned("abcd1234") as third:
        assert third is not None


def test_children_keep_their_order_and_are_noted_once(store: RunStore) -> None:
    os.close(store.create(record(kind="chain")))
    for child in ("c", "a", "b", "a", "gone", "../abcd1234"):
        store.add_child("abcd1234", child)
    for child in ("a", "b", "c"):
        os.close(store.create(record(child, parent_id="abcd1234")))
    assert store.children("abcd1234") == ["c", "a", "b"]


@pytest.mark.parametrize("recycled", [True, False], ids=["pid recycled", "same pid and start"])
def test_after_a_reboot_no_run_is_running_whoever_has_its_pids_now(store: RunStore, recycled: bool) -> None:
    os.close(store.create(record()))
    folder = store.path("abcd1234")
    start = start_time(os.getpid())
    assert start is not None
    supervisor = {"pid": os.getpid(), "start": start - recycled}
    (folder / "keeper.json").write_text(json.dumps({"supervisor": supervisor, "child": os.getpid(), "ending": None}))
    assert store.state("abcd1234").status == "unsettled"
    assert supervisor_alive(folder) is not recycled
    if recycled:
        assert not stop(folder)  # it would end this process


def test_a_run_that_cannot_be_recorded_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ClinvkError) as refused:
        RunStore(tmp_path).create(record())
    assert refused.value.failure.code == "internal"
    assert (tmp_path / "runs").read_bytes() == b""


def test_a_run_that_another_process_is_removing_never_looks_damaged(store: RunStore) -> None:
    damaged: list[str] = []

    def look() -> None:
        while not done.is_set():
            for run_id in store.ids():
                try:
                    store.record(run_id)
                except ClinvkError as error:
                    if store.path(run_id).exists():
                        damaged.append(error.failure.message)

    done = threading.Event()
    looking = threading.Thread(target=look)
    looking.start()
    for number in range(300):
        os.close(store.create(record(f"run{number}")))
        store.delete(f"run{number}")
    done.set()
    looking.join()
    assert damaged == []
    assert list(store.folder.iterdir()) == []


def test_a_record_of_a_later_version_is_read_all_the_same(store: RunStore) -> None:
    os.close(store.create(record()))
    path = store.path("abcd1234") / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "from_the_future": 1}), encoding="utf-8")
    assert store.record("abcd1234").id == "abcd1234"
