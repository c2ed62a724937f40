"""The command where somebody looks at it: in a pseudo-terminal."""

import json
import os
import re

import pytest

from cli_terminal import gone, reached, release, run, terminal
from fakes import agent
from fakes.world import World

TOOL = (
    '{"type":"assistant","message":{"id":"m","model":"fake-claude","content":[{"type":"tool_use","id":"t1",'
    '"name":"Bash","input":{"command":"ls -l"}}]},"session_id":"x","parent_tool_use_id":null}\n'
)


def test_the_answer_appears_as_it_comes(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    prompt = agent.prompt({"say": "one "}, {"reach": str(up)}, {"wait": str(held)}, {"say": "two"})
    with terminal(prompt, env=world.environ, cwd=world.workdir) as screen:
        reached(up.path)
        screen.until("one ")
        assert "two" not in screen.seen
        release(held.path)
        assert screen.ended() == 0
    assert screen.plain.endswith("one two\n")


def test_below_it_is_a_line_with_backend_time_and_tool(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    prompt = agent.prompt(
        {"answer": "looking"}, {"raw": TOOL}, {"reach": str(up)}, {"wait": str(held)}, {"answer": "done"}
    )
    with terminal(prompt, env=world.environ, cwd=world.workdir) as screen:
        reached(up.path)
        screen.until("claude · ", "Bash: ls -l")
        release(held.path)
        assert screen.ended() == 0
    assert re.search(r"claude · \d+s · Bash: ls -l", screen.plain)
    assert "looking\r\n" in screen.seen
    assert screen.plain.endswith("done\n")
    assert "Bash: ls -l\x1b[0m\r\x1b[K" in screen.seen  # it was taken away again


def test_quiet_shows_the_answer_alone(world: World) -> None:
    with terminal("-q", "hello", env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    assert screen.seen == "echo: hello\r\n"


@pytest.mark.parametrize(
    ("more", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"CLINVK_OUTPUT__COLOR": "false"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colour_is_as_configured_and_as_no_color_says(world: World, more: dict[str, str], coloured: bool) -> None:
    with terminal("hello", env={**world.environ, **more}, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    assert bool(re.search(r"\x1b\[[0-9;]*m", screen.seen)) is coloured


def test_a_terminal_that_cannot_move_its_cursor_is_treated_like_a_pipe(world: World) -> None:
    with terminal("hello", env={**world.environ, "TERM": "dumb"}, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    assert screen.seen == "echo: hello\r\n"


def test_an_answer_cannot_take_over_the_terminal(world: World) -> None:
    prompt = agent.prompt({"answer": "red \x1b[31malert\x07 \x1b]52;c;ZXZpbA==\x07 end\tof\u009b2J it"})
    with terminal("-q", prompt, env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    assert "\x1b" not in screen.seen
    assert "\x07" not in screen.seen
    assert "\x9b" not in screen.seen
    assert "alert" in screen.seen


def test_the_line_of_progress_fits_the_terminal(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    tool = TOOL.replace("ls -l", "x" * 300)
    prompt = agent.prompt({"raw": tool}, {"reach": str(up)}, {"wait": str(held)})
    with terminal(prompt, env=world.environ, cwd=world.workdir, columns=40) as screen:
        reached(up.path)
        screen.until("Bash", "…")
        release(held.path)
        assert screen.ended() == 0
    shown = [part for part in re.split(r"[\r\n]", screen.plain) if "Bash" in part]
    assert shown
    assert all(len(part) < 40 for part in shown)


def test_control_c_stops_the_run_and_leaves_a_clean_screen(world: World) -> None:
    up = world.fifo("up")
    prompt = agent.prompt({"ignore": True}, {"answer": "so far"}, {"reach": str(up)}, {"hang": True})
    with terminal(prompt, env=world.environ, cwd=world.workdir) as screen:
        told = reached(up.path)
        pidfd = os.pidfd_open(told["pid"])
        screen.until("so far")
        screen.type("\x03")
        assert gone(pidfd)
        assert screen.ended() == 7
    assert screen.plain.count("so far") == 1
    assert "cancelled" in screen.plain
    assert "Traceback" not in screen.plain


def test_without_a_prompt_it_says_how_to_give_one(world: World) -> None:
    with terminal(env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 1
    assert "no prompt given" in screen.plain


def test_parallel_shows_a_table_while_it_runs_and_the_answers_at_its_end(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    slow = agent.prompt({"say": "thinking hard"}, {"reach": str(up)}, {"wait": str(held)}, {"say": " done"})
    tasks = world.root / "tasks.json"
    parts = [{"name": "quick", "prompt": "hello"}, {"name": "slow", "backend": "gemini", "prompt": slow}]
    tasks.write_text(json.dumps(parts), encoding="utf-8")
    with terminal("parallel", "-f", str(tasks), env=world.environ, cwd=world.workdir) as screen:
        reached(up.path)
        screen.until("quick", "completed", "slow", "thinking hard")
        release(held.path)
        assert screen.ended() == 0
    assert re.search(r"1 +quick +claude +completed", screen.plain)
    assert re.search(r"2 +slow +gemini +running +\d+s +thinking hard", screen.plain)
    assert "--- 1 quick (claude)" in screen.plain
    assert "thinking hard done" in screen.plain
    assert "2 of 2 completed" in screen.plain


def test_compare_puts_the_answers_side_by_side_where_there_is_room(world: World) -> None:
    words = ("compare", "-b", "claude,codex", "hello")
    with terminal(*words, env=world.environ, cwd=world.workdir, columns=120) as screen:
        assert screen.ended() == 0
    assert re.search(r"echo: hello +│ +echo: hello", screen.plain)
    assert re.search(r"PLACE +BACKEND", screen.plain)
    with terminal(*words, "--fresh", env=world.environ, cwd=world.workdir, columns=60) as screen:
        assert screen.ended() == 0
    assert screen.plain.count("\necho: hello\n") == 2


def test_resume_lets_one_choose_a_session_and_asks_for_the_prompt(world: World) -> None:
    with terminal("-q", "the first", env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    with terminal("resume", env=world.environ, cwd=world.workdir) as screen:
        screen.until("the first", "which one")
        screen.type("1\n")
        screen.until("prompt: ")
        screen.type("and the second\n")
        assert screen.ended() == 0
    assert "echo: and the second\n" in screen.plain
    assert any(word.startswith("--resume=") for word in world.calls()[-1]["argv"])


@pytest.mark.parametrize(("key", "left"), [("n", 1), ("y", 0)])
def test_deleting_is_asked_for_first(world: World, key: str, left: int) -> None:
    with terminal("-q", "the first", env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    (head,) = (world.home / "sessions").glob("*.json")
    with terminal("sessions", "delete", head.stem, env=world.environ, cwd=world.workdir) as screen:
        screen.until("for good?")
        screen.type(f"{key}\n")
        assert screen.ended() == (1 if left else 0)
    assert len(list((world.home / "sessions").glob("*.json"))) == left


def test_a_table_is_as_wide_as_the_terminal(world: World) -> None:
    with terminal("-q", "w" * 300, env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    with terminal("sessions", "list", env=world.environ, cwd=world.workdir, columns=70) as screen:
        assert screen.ended() == 0
    assert max(map(len, screen.plain.splitlines())) <= 70
    assert "…" in screen.plain


def test_where_a_table_has_no_room_nothing_is_cut_out_of_it(world: World) -> None:
    with terminal("-q", "hello", env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    with terminal("sessions", "list", env=world.environ, cwd=world.workdir, columns=40) as screen:
        assert screen.ended() == 0
    (head,) = (world.home / "sessions").glob("*.json")
    assert screen.plain.splitlines()[0].rstrip() == head.stem
    assert "backend claude" in screen.plain
    assert "hello" in screen.plain


@pytest.mark.parametrize(("key", "made"), [("y", True), ("n", False), ("", False)])
def test_what_an_agent_asks_is_decided_by_the_person_at_the_terminal(world: World, key: str, made: bool) -> None:
    prompt = agent.prompt({"ask": "touch made"}, {"answer": "done"})
    words = ("-b", "claude", "--approval-mode", "always", prompt)
    with terminal(*words, env=world.environ, cwd=world.workdir) as screen:
        screen.until("claude asks to use Bash:", "touch made", "Allow it? [y/N] ")
        screen.type(f"{key}\n")
        assert screen.ended() == 0
    assert (world.workdir / "made").exists() is made
    assert "\ndone\n" in screen.plain
    assert ("denied: refused at the terminal" in screen.plain) is not made


def test_a_question_that_was_answered_at_another_terminal_is_taken_back(world: World) -> None:
    held = world.fifo("held")
    prompt = agent.prompt({"ask": "touch made"}, {"wait": str(held)}, {"answer": "done"})
    words = ("-b", "claude", "--approval-mode", "always", prompt)
    with terminal(*words, env=world.environ, cwd=world.workdir) as first:
        first.until("Allow it? [y/N] ")
        with terminal(*words, env=world.environ, cwd=world.workdir) as second:
            second.until("Allow it? [y/N] ")
            first.type("y\n")
            second.until("somebody else answered")
            release(held.path)
            assert (first.ended(), second.ended()) == (0, 0)
    assert (world.workdir / "made").exists()
    assert "\ndone\n" in second.plain


@pytest.mark.parametrize(("key", "made"), [("y", True), ("n", False)])
def test_who_waits_for_a_run_at_another_terminal_is_asked_what_it_asks(world: World, key: str, made: bool) -> None:
    prompt = agent.prompt({"ask": "touch made"}, {"answer": "done"})
    words = ("-b", "claude", "--approval-mode", "always", prompt)
    with terminal(*words, env=world.environ, cwd=world.workdir) as first:
        first.until("Allow it? [y/N] ")
        (begun,) = (world.home / "runs").glob("*/")
        with terminal("runs", "wait", begun.name, env=world.environ, cwd=world.workdir) as second:
            second.until("claude asks to use Bash:", "touch made", "Allow it? [y/N] ")
            second.type(f"{key}\n")
            assert (second.ended(), first.ended()) == (0, 0)
    assert (world.workdir / "made").exists() is made
    assert "done\n" in second.plain


def test_what_comes_after_a_question_without_an_answer_has_a_line_of_its_own(world: World) -> None:
    words = ("-b", "claude", "--approval-mode", "always", agent.prompt({"ask": "touch made"}))
    with terminal(*words, env=world.environ, cwd=world.workdir) as first:
        first.until("Allow it? [y/N] ")
        (begun,) = (world.home / "runs").glob("*/")
        with terminal("runs", "wait", begun.name, env=world.environ, cwd=world.workdir) as second:
            second.until("Allow it? [y/N] ")
            assert run(world, "runs", "cancel", begun.name).returncode == 0
            assert (first.ended(), second.ended()) == (7, 7)
    assert "Allow it? [y/N] \n" in first.plain
    assert "Allow it? [y/N] \n" in second.plain


def test_a_run_in_the_background_needs_nobody_at_the_terminal_that_began_it(world: World) -> None:
    words = ("-b", "claude", "--background", agent.prompt({"answer": "late"}))
    with terminal(*words, env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 0
    waited = run(world, "runs", "wait", screen.plain.split()[-1])
    assert (waited.returncode, waited.stdout) == (0, "late\n")


def test_nobody_at_the_terminal_is_asked_by_a_run_in_the_background(world: World) -> None:
    words = ("-b", "claude", "--approval-mode", "always", "--background", "hello")
    with terminal(*words, env=world.environ, cwd=world.workdir) as screen:
        assert screen.ended() == 1
    assert "approval_mode" in screen.plain
    assert world.calls() == []
