"""`clinvk sessions` and `clinvk runs`."""

import json
import os
import subprocess

import pytest

from cli_terminal import PATIENCE_SECS, gone, reached, run
from fakes import agent
from fakes.world import World


def begun(world: World, prompt: str, *words: str) -> str:
    """The id of a session that began with this prompt."""
    session_id: str = json.loads(run(world, "-o", "json", *words, prompt).stdout)["session_id"]
    return session_id


def test_sessions_are_listed_filtered_and_paged(world: World) -> None:
    first = begun(world, "the first", "--tag", "red")
    second = begun(world, "the second", "-b", "codex")
    done = run(world, "sessions", "list")
    assert done.returncode == 0
    assert done.stdout.index(second) < done.stdout.index(first)
    assert "the first" in done.stdout
    listed = json.loads(run(world, "sessions", "list", "-o", "json").stdout)
    assert (listed["total"], [each["id"] for each in listed["sessions"]]) == (2, [second, first])
    for words, found in (
        (("-b", "codex"), second), (("--tag", "red"), first), (("-w", ".", "--offset", "1"), first),
        (("--limit", "1"), second),
    ):  # fmt: skip
        (one,) = json.loads(run(world, "-o", "json", "sessions", "list", *words).stdout)["sessions"]
        assert one["id"] == found
    assert "1 of 2; more with --offset 1" in run(world, "sessions", "list", "--limit", "1").stderr
    assert run(world, "sessions", "list", "-w", "/").stderr == "no sessions\n"
    assert "idle, active, failed, running" in run(world, "sessions", "list", "--status", "lost").stderr


def test_sessions_that_cannot_be_read_are_counted_as_such_and_named(world: World) -> None:
    ids = [begun(world, "one"), begun(world, "two"), begun(world, "three")]
    assert run(world, "sessions", "list", "--offset", "9").stderr == "no sessions from 9 on; there are 3\n"
    for session_id in ids[1:]:
        (world.home / "sessions" / f"{session_id}.json").write_text("{", encoding="utf-8")
    done = run(world, "sessions", "list", "--limit", "2")
    assert done.stderr.startswith("none of 2 sessions can be read; more with --offset 2\nclinvk: warning: ")
    assert all(session_id in done.stderr for session_id in ids[1:])
    assert ids[0] in run(world, "sessions", "list", "--limit", "2").stdout


def test_a_session_is_found_by_what_was_said_and_shown_with_its_turns(world: World) -> None:
    session_id = begun(world, "where is the zebra")
    run(world, "-c", "and the lion")
    begun(world, "something else")
    done = run(world, "sessions", "search", "zebra", "lion")
    assert (session_id in done.stdout, "something else" in done.stdout) == (True, False)
    shown = run(world, "sessions", "show", session_id[:8])
    assert f"session: {session_id}" in shown.stdout
    assert "> where is the zebra\n\necho: where is the zebra\n" in shown.stdout
    assert "--- turn 2" in shown.stdout
    assert len(json.loads(run(world, "sessions", "show", session_id, "-o", "json").stdout)["turns"]) == 2
    assert run(world, "sessions", "show", "ffffff").returncode == 4


def test_sessions_are_forked_tagged_renamed_exported_and_deleted(world: World) -> None:
    session_id = begun(world, "hello")
    fork = run(world, "sessions", "fork", session_id).stdout.strip()
    assert fork != session_id
    assert run(world, "sessions", "tag", session_id, "a", "b").stderr == f"{session_id}: a, b\n"
    assert json.loads(run(world, "-o", "json", "sessions", "untag", session_id, "a").stdout)["tags"] == ["b"]
    assert run(world, "sessions", "rename", session_id, "new title").returncode == 0
    assert "# new title\n" in run(world, "sessions", "export", session_id).stdout
    assert json.loads(run(world, "sessions", "export", session_id, "--format", "json").stdout)["session"]["tags"] == [
        "b"
    ]
    assert run(world, "sessions", "export", session_id, "--to", "out.md").stdout == ""
    assert "# new title\n" in (world.workdir / "out.md").read_text(encoding="utf-8")
    assert run(world, "sessions", "delete", session_id, fork).returncode == 0
    assert json.loads(run(world, "sessions", "list", "-o", "json").stdout)["total"] == 0


def test_old_sessions_are_removed_only_when_somebody_says_how_old(world: World) -> None:
    session_id = begun(world, "hello")
    head = world.home / "sessions" / f"{session_id}.json"
    head.write_text(head.read_text(encoding="utf-8").replace('"last_used":"20', '"last_used":"19'), encoding="utf-8")
    stored = json.loads(head.read_text(encoding="utf-8"))
    head.write_text(json.dumps({**stored, "last_used": "1999-01-01T00:00:00.000Z"}), encoding="utf-8")
    assert "kept for ever" in run(world, "sessions", "clean").stderr
    assert head.exists()
    assert run(world, "sessions", "clean", "--older-than", "30").stderr == "deleted 1 sessions\n"
    assert not head.exists()


def test_a_session_in_use_is_busy(world: World) -> None:
    session_id = begun(world, "hello")
    up, held = world.fifo("up"), world.fifo("held")
    run(world, "--background", "-s", session_id, agent.prompt({"reach": str(up)}, {"wait": str(held)}))
    reached(up.path)
    assert run(world, "-s", session_id, "me too").returncode == 4
    assert run(world, "sessions", "delete", session_id).returncode == 4
    assert json.loads(run(world, "sessions", "show", session_id, "-o", "json").stdout)["session"]["status"] == "running"
    subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)


def test_resume_goes_on_by_id_and_with_last(world: World) -> None:
    session_id = begun(world, "hello")
    begun(world, "other")
    done = run(world, "resume", session_id[:10], "more", "-o", "json")
    assert json.loads(done.stdout)["session_id"] == session_id
    assert json.loads(run(world, "resume", "--last", "and more", "-o", "json").stdout)["session_id"] == session_id
    assert run(world, "resume").returncode == 1
    assert run(world, "resume", "ffffffff", "hi").returncode == 4
    moved = run(world, "resume", session_id, "-b", "codex", "over to you")
    assert (moved.returncode, "handed over" in moved.stderr) == (0, True)


def test_runs_are_listed_shown_and_read(world: World) -> None:
    result = json.loads(
        run(world, "-o", "json", agent.prompt({"answer": "one\ntwo needle\nthree"}, text="look for it")).stdout
    )
    failed = json.loads(run(world, "-o", "json", "-b", "offline", "offline:fail=timeout").stdout)
    done = run(world, "runs", "list")
    assert done.stdout.index(failed["run_id"]) < done.stdout.index(result["run_id"])
    listed = json.loads(run(world, "runs", "list", "-o", "json", "-b", "claude").stdout)
    assert [each["run_id"] for each in listed["runs"]] == [result["run_id"]]
    assert json.loads(run(world, "runs", "list", "--status", "failed", "-o", "json").stdout)["total"] == 1
    total = listed["total"] + 1
    assert f"1 of {total}; more with --offset 1" in run(world, "runs", "list", "--limit", "1").stderr
    assert run(world, "runs", "list", "--offset", "9").stderr == f"no runs from 9 on; there are {total}\n"
    run_id = result["run_id"]
    shown = run(world, "runs", "show", run_id[:8])
    assert f"run: {run_id}" in shown.stdout
    assert shown.stdout.endswith("\none\ntwo needle\nthree\n")
    assert run(world, "runs", "output", run_id).stdout == "one\ntwo needle\nthree\n"
    assert run(world, "runs", "output", run_id, "--query", "needle").stdout == "4: two needle\n"
    paged = run(world, "runs", "output", run_id, "--limit", "3")
    assert (paged.stdout, paged.stderr) == ("one\n", "more with --offset 3\n")
    assert json.loads(run(world, "runs", "output", run_id, "-o", "json").stdout)["total_chars"] == 20
    assert run(world, "runs", "wait", failed["run_id"]).returncode == 6
    assert run(world, "runs", "show", "ffffff").returncode == 1


def test_a_run_is_cancelled_from_elsewhere(world: World) -> None:
    up = world.fifo("up")
    run_id = run(
        world, "--background", agent.prompt({"ignore": True}, {"reach": str(up)}, {"hang": True})
    ).stdout.strip()
    pidfd = os.pidfd_open(reached(up.path)["pid"])
    done = run(world, "runs", "cancel", run_id)
    assert gone(pidfd)
    assert (done.returncode, done.stderr) == (0, f"{run_id} cancelled\n")
    assert json.loads(run(world, "-o", "json", "runs", "cancel", run_id).stdout)["already_ended"] is True
    assert run(world, "runs", "wait", run_id).returncode == 7


def test_records_of_runs_are_removed_when_they_are_old_or_all(world: World) -> None:
    run(world, "hello")
    up, held = world.fifo("up"), world.fifo("held")
    running = run(world, "--background", agent.prompt({"reach": str(up)}, {"wait": str(held)})).stdout.strip()
    reached(up.path)
    assert run(world, "runs", "clean").stderr == "removed 0 runs\n"
    assert run(world, "runs", "clean", "--older-than", "1").stderr == "removed 0 runs\n"
    assert run(world, "runs", "clean", "--older-than", "0").returncode == 1
    assert run(world, "runs", "clean", "--all").stderr == "removed 1 runs\n"
    assert [each["run_id"] for each in json.loads(run(world, "runs", "list", "-o", "json").stdout)["runs"]] == [running]
    subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)


@pytest.mark.parametrize("words", [("sessions", "list"), ("runs", "list")])
def test_an_empty_home_has_nothing_to_list(world: World, words: tuple[str, ...]) -> None:
    done = run(world, *words)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("no ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sessions",), "ACTION"),
        (("sessions", "show"), "ID"),
        (("-b", "claude", "sessions", "show", "x"), "sessions show takes no -b"),
        (("runs", "list", "--limit", "0"), "limit"),
        (("sessions", "clean", "--older-than", "nan"), "nan is no number from 0 to 36,500"),
        (("sessions", "clean", "--older-than", "-1"), "-1 is no number"),
        (("runs", "wait", "x", "--timeout", "inf"), "inf is no number"),
        (("runs", "list", "--status", "odd"), "odd"),
    ],
)
def test_what_cannot_be_meant_is_refused(world: World, words: tuple[str, ...], said: str) -> None:
    done = run(world, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
