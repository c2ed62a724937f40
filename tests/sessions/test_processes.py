"""Several real processes on one home, and processes that are killed while they write."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

from clinvk.sessions.model import Session, SessionFilter
from clinvk.sessions.store import SessionStore

WRITER = """
import sys
from pathlib import Path
from clinvk.events import TokenUsage
from clinvk.sessions.model import TurnRecord
from clinvk.sessions.store import SessionStore
home, name, count, *ids = sys.argv[1:]
store = SessionStore(Path(home))
for at in range(int(count)):
    for session_id in ids:
        run_id = f"{name}-{at}"
        turn = TurnRecord(run_id=run_id, prompt="p" * 500, output="o" * 500, usage=TokenUsage(input_tokens=1))
        store.append_turn(session_id, turn)
        print(session_id, run_id, flush=True)
        if at % 10 == 0:
            store.tag(session_id, [run_id])
            store.page()
"""


def writer(home: Path, name: str, count: int, *ids: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", WRITER, str(home), name, str(count), *ids]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> list[str]:
    with process:
        out, _ = process.communicate(timeout=120)
    return out.splitlines()


def test_four_processes_lose_nothing_on_one_session_and_on_their_own(store: SessionStore, home: Path) -> None:
    shared = store.create(Session(backend="claude")).id
    own = [store.create(Session(backend="codex")).id for _ in range(4)]
    writers = [writer(home, f"w{at}", 50, shared, own[at]) for at in range(4)]
    for process in writers:
        finish(process)
        assert process.returncode == 0
    for session_id, names in [(shared, range(4)), *((own[at], [at]) for at in range(4))]:
        turns = store.turns(session_id, 0, 1000)
        assert sorted(turn.run_id for turn in turns) == sorted(f"w{n}-{at}" for n in names for at in range(50))
        assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
        head = store.load(session_id)
        assert (head.turn_count, head.token_usage.input_tokens) == (len(turns), len(turns))
        assert sorted(head.tags) == sorted(f"w{n}-{at}" for n in names for at in range(0, 50, 10))
    assert store.page().total == 5
    assert store.page(SessionFilter(tag="w2-40")).total == 2
    assert store.warnings() == []


def test_a_writer_that_is_killed_leaves_a_store_that_is_whole(store: SessionStore, home: Path) -> None:
    session_id = store.create(Session(backend="claude")).id
    told: list[str] = []
    for attempt in range(6):
        process = writer(home, f"k{attempt}", 100_000, session_id)
        with process:
            assert process.stdout is not None
            told += [line.split()[1] for line in itertools.islice(process.stdout, 7 + 3 * attempt)]
            process.kill()
            told += [line.split()[1] for line in process.stdout if line.endswith("\n")]
        turns = store.turns(session_id, 0, 10_000)
        head = store.load(session_id)
        assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
        assert (head.turn_count, head.token_usage.input_tokens) == (len(turns), len(turns))
        runs = {turn.run_id for turn in turns}
        assert set(told) <= runs
        assert len(runs) == len(turns)
    assert store.warnings() == []
    assert [one.session.id for one in store.search("ppp").hits] == [session_id]
    for line in (home / "sessions" / f"{session_id}.turns.jsonl").read_bytes().splitlines():
        assert line  # torn lines may stand there, and are dropped above; none is empty
    assert json.loads((home / "sessions" / f"{session_id}.json").read_text("utf-8"))["id"] == session_id
