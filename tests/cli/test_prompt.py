"""`clinvk PROMPT` on pipes."""

import json
import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli_terminal import PATIENCE_SECS, gone, reached, run
from clinvk_command import COMMAND
from fakes import agent
from fakes.world import World


@contextmanager
def started(world: World, *words: str, stdout: int = subprocess.PIPE) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *words],
        env=world.environ,
        cwd=world.workdir,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def steps(*steps: agent.Step) -> str:
    return agent.prompt(*steps)


def test_a_pipe_gets_the_answer_and_nothing_else(world: World) -> None:
    done = run(world, steps({"answer": "I look around first."}, {"answer": "It is 42."}))
    assert (done.returncode, done.stdout, done.stderr) == (0, "It is 42.\n", "")


def test_with_stream_a_pipe_gets_all_that_the_agent_says(world: World) -> None:
    done = run(world, "--stream", steps({"say": "I look "}, {"answer": "around first."}, {"answer": "It is 42."}))
    assert (done.returncode, done.stdout) == (0, "I look around first.\n\nIt is 42.\n")


def test_standard_input_is_the_prompt_when_there_is_none(world: World) -> None:
    assert run(world, stdin="from the pipe\n").stdout == "echo: from the pipe\n"
    assert run(world, "prompt", "-", stdin="from the pipe").stdout == "echo: from the pipe\n"


def test_standard_input_follows_the_prompt_when_asked_for(world: World) -> None:
    assert run(world, "--stdin", "review:", stdin="a diff").stdout == "echo: review:\n\na diff\n"


def test_standard_input_that_nobody_asked_for_is_left_alone_and_mentioned(world: World) -> None:
    done = run(world, "hello", stdin="a diff")
    assert (done.returncode, done.stdout) == (0, "echo: hello\n")
    assert "--stdin adds it" in done.stderr


@pytest.mark.parametrize("stdin", ["", " \n"])
def test_an_empty_standard_input_is_no_prompt(world: World, stdin: str) -> None:
    done = run(world, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, "")
    assert "empty" in done.stderr


def test_standard_input_that_is_no_text_is_refused_with_the_place(world: World) -> None:
    done = subprocess.run(
        [*COMMAND],
        env=world.environ,
        cwd=world.workdir,
        input=b"abc\xff",
        capture_output=True,
        timeout=PATIENCE_SECS,
        check=False,
    )
    assert (done.returncode, b"not UTF-8 at byte 3" in done.stderr) == (1, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_is_no_place_for_anything_else(world: World, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, "hello"],
        env=world.environ,
        cwd=world.workdir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_SECS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&- " in f"{closed} " and not closed.startswith("2") else "echo: hello\n")
    assert not [path for path in world.home.rglob("*.lock") if path.read_bytes().count(b"echo")]


def test_answers_are_utf_8_whatever_the_locale_says(world: World) -> None:
    env = {"LANG": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}
    assert run(world, "-o", "json", "日本", env=env).stdout.count("echo: 日本") == 1
    assert run(world, "日本", "--fresh", env=env).stdout == "echo: 日本\n"


def test_a_prompt_that_is_no_text_is_refused(world: World) -> None:
    done = subprocess.run(
        [*COMMAND, b"a\xffb"],
        env=world.environ,
        cwd=world.workdir,
        capture_output=True,
        timeout=PATIENCE_SECS,
        check=False,
    )
    assert (done.returncode, b"character 1" in done.stderr, world.calls()) == (1, True, [])


def test_several_words_are_no_prompt(world: World) -> None:
    done = run(world, "fix", "the", "bug")
    assert (done.returncode, world.calls()) == (1, [])
    assert "put it in quotes" in done.stderr


def test_a_slip_in_a_verb_asks_no_agent(world: World) -> None:
    done = run(world, "sesions")
    assert (done.returncode, world.calls()) == (1, [])
    assert "did you mean 'sessions'?" in done.stderr
    assert run(world, "prompt", "sesions").stdout == run(world, "--", "sesions").stdout == "echo: sesions\n"


@pytest.mark.parametrize(
    "words",
    [
        ("-b", "codex", "-m", "gpt-x", "hello"),
        ("hello", "-b", "codex", "-m", "gpt-x"),
        ("-b", "codex", "hello", "--model=gpt-x"),
        ("-b", "codex", "prompt", "hello", "-m", "gpt-x"),
        ("prompt", "-b", "codex", "--", "hello", "-m"),
    ],
)
def test_flags_may_stand_anywhere(world: World, words: tuple[str, ...]) -> None:
    done = run(world, *words)
    if words[-2:] == ("hello", "-m"):
        assert "2 arguments" in done.stderr
        return
    assert done.stdout == "echo: hello\n"
    (call,) = world.calls("codex")
    assert "--model=gpt-x" in call["argv"]


def test_json_is_the_result_of_the_contract(world: World) -> None:
    done = run(world, "-o", "json", "hello")
    result: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {
        "run_id", "status", "backend", "model", "session_id", "output", "output_truncated", "output_chars",
        "structured_output", "partial", "exit_code", "duration_ms", "token_usage", "cost_usd", "stop_reason",
        "warnings", "error",
    } == set(result)  # fmt: skip
    assert (result["status"], result["backend"], result["output"]) == ("completed", "claude", "echo: hello")
    assert result["token_usage"]["input_tokens"] == 12


def test_stream_json_is_the_unified_events_one_per_line(world: World) -> None:
    done = run(world, "-o", "stream-json", steps({"say": "a"}, {"answer": "b"}))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == [
        "run_started",
        "session_started",
        "text_delta",
        "text_delta",
        "text_end",
        "run_finished",
    ]
    assert len({event["run_id"] for event in events}) == 1
    assert events[-1]["status"] == "completed"


def test_stream_json_of_a_run_that_is_driven_elsewhere_tells_what_is_left_of_it(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    prompt = steps({"reach": str(up)}, {"wait": str(held)})
    (handed_out,) = run(world, "-o", "stream-json", "--background", prompt).stdout.splitlines()[-1:]
    told = json.loads(handed_out)
    assert (told["type"], told["status"]) == ("result", "running")
    reached(up.path)
    with started(world, "-o", "stream-json", prompt) as process:
        assert process.stdout is not None
        began = process.stdout.readline()  # it has joined the run
        subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)
        output, _ = process.communicate(timeout=PATIENCE_SECS)
    lines = [json.loads(line) for line in (began, *output.splitlines())]
    told_late = [line["type"] for line in lines if line["type"] != "session_started"]  # it joined before that, or after
    assert told_late == ["run_started", "text_delta", "text_end", "run_finished"]
    assert lines[0] == {"type": "run_started", "run_id": told["run_id"], "backend": "claude"}
    assert lines[-1] == {
        "type": "run_finished", "run_id": told["run_id"], "status": "completed", "error": None, "backend": "claude",
    }  # fmt: skip


def test_a_long_answer_is_printed_in_full(world: World) -> None:
    long = run(world, steps({"chars": 400_000}))
    assert long.stdout == "x" * 400_000 + "\n"
    cut = json.loads(run(world, "-o", "json", steps({"chars": 400_000})).stdout)
    assert (cut["output_truncated"], cut["output_chars"]) == (True, 400_000)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-b", "offline", "offline:fail=rate_limited"), 5, "rate_limited"),
        (("-b", "offline", "offline:fail=auth_required"), 5, "auth_required"),
        (("-b", "offline", "offline:fail=overloaded"), 5, "overloaded"),
        (("-b", "offline", "offline:fail=backend_error"), 1, "backend_error"),
        (("-b", "offline", "offline:exit=42"), 42, "code 42"),
        (("-b", "offline", "--timeout", "0.2", "offline:sleep=60"), 6, "0.2"),
        (("-b", "clude", "hi"), 2, "did you mean 'claude'?"),
        (("-s", "abcdef", "hi"), 4, "no session 'abcdef'"),
        (("-c", "hi"), 4, "no session of"),
        (("--config", "/no/such/file", "hi"), 3, "/no/such/file"),
        (("--timeout", "-1", "hi"), 1, "timeout_secs"),
        (("-w", "/no/such/folder", "hi"), 1, "/no/such/folder"),
        (("-c", "--new", "hi"), 1, "exclude each other"),
        (("--ephemeral", "-c", "hi"), 1, "--ephemeral"),
        (("--metadata", "x", "hi"), 1, "KEY=VALUE"),
        (("--output-schema", "/no/such/file", "hi"), 1, "/no/such/file"),
        (("--sandbox-mode", "none", "hi"), 1, "invalid choice: 'none'"),
    ],
)
def test_the_exit_code_tells_what_went_wrong(world: World, words: tuple[str, ...], code: int, said: str) -> None:
    done = run(world, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "\n  hint: " in done.stderr


@pytest.mark.parametrize(
    ("message", "ended", "code"), [("[API Error: fetch failed]", 247, 5), ("it broke", 42, 42), ("it broke", 100, 100)]
)
def test_an_error_of_the_models_service_ends_with_5_and_others_as_the_backend_does(
    world: World, message: str, ended: int, code: int
) -> None:
    told = {"type": "result", "status": "error", "error": {"type": "Error", "message": message}}
    done = run(world, "-b", "gemini", steps({"raw": json.dumps(told) + "\n"}, {"exit": ended}))
    assert (done.returncode, done.stdout) == (code, "")


def test_a_backend_that_is_not_there_ends_with_2(world: World) -> None:
    missing = {"CLINVK_BACKENDS__CLAUDE__COMMAND": "no-such-program", "CLINVK_BACKEND": "claude"}
    done = run(world, "hi", env=missing)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_failure_is_said_in_every_format(world: World) -> None:
    as_json = run(world, "-o", "json", "-b", "offline", "offline:fail=rate_limited")
    assert json.loads(as_json.stdout)["error"]["code"] == "rate_limited"
    refused = run(world, "-o", "json", "-s", "abcdef", "hi")
    assert json.loads(refused.stdout)["error"]["code"] == "session_not_found"
    configured = run(world, "-s", "abcdef", "hi", env={"CLINVK_OUTPUT__FORMAT": "json"})
    assert json.loads(configured.stdout)["error"]["code"] == "session_not_found"
    streamed = run(world, "-o", "stream-json", "-s", "abcdef", "hi")
    (line,) = streamed.stdout.splitlines()
    assert json.loads(line)["error"]["code"] == "session_not_found"


def test_partial_output_of_a_failure_is_kept_and_shown(world: World) -> None:
    done = run(world, steps({"answer": "so far"}, {"fail": "overloaded"}))
    assert (done.returncode, done.stdout) == (5, "so far\n")


def test_tokens_and_time_are_shown_where_the_configuration_asks_for_them(world: World) -> None:
    shown = {"CLINVK_OUTPUT__SHOW_TOKENS": "true", "CLINVK_OUTPUT__SHOW_TIMING": "true"}
    done = run(world, "hello", env=shown)
    assert done.stdout == "echo: hello\n"
    assert "tokens: 12 in (2 cached), 3 out" in done.stderr
    assert "time: " in done.stderr
    assert run(world, "hello again").stderr == ""


def test_continue_goes_on_in_the_newest_session_of_this_folder(world: World, tmp_path: Path) -> None:
    run(world, "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(world, "not this one", cwd=elsewhere)
    done = run(world, "-c", "second", "-o", "json")
    first, other, second = world.calls()
    session = next(word for word in first["argv"] if word.startswith("--session-id=")).partition("=")[2]
    assert f"--resume={session}" in second["argv"]
    assert (
        json.loads(done.stdout)["session_id"]
        == json.loads(run(world, "-c", "third", "-o", "json").stdout)["session_id"]
    )
    assert other["cwd"] == str(elsewhere)
    assert run(world, "-c", "-w", str(elsewhere), "there").returncode == 0
    assert world.calls()[-1]["cwd"] == str(elsewhere)


def test_auto_resume_does_so_unasked_and_stays_in_folder_and_backend(world: World, tmp_path: Path) -> None:
    auto = {"CLINVK_SESSION__AUTO_RESUME": "true"}
    first = json.loads(run(world, "-o", "json", "first", env=auto).stdout)["session_id"]
    second = run(world, "-o", "json", "second", env=auto)
    assert (json.loads(second.stdout)["session_id"], "--new begins another" in second.stderr) == (first, True)
    for words in (("--new",), ("-b", "codex"), ("-w", str(tmp_path))):
        assert json.loads(run(world, "-o", "json", "other", *words, env=auto).stdout)["session_id"] != first
    assert (
        json.loads(run(world, "-o", "json", "--ephemeral", "other", "-b", "codex", env=auto).stdout)["session_id"]
        is None
    )


def test_a_dry_run_shows_the_command_and_runs_nothing(world: World) -> None:
    done = run(world, "--dry-run", "hello world")
    assert done.returncode == 0
    assert f"command: {world.bin}/claude" in done.stdout
    planned = json.loads(run(world, "--dry-run", "-o", "json", "hello world").stdout)
    assert (planned["dry_run"], planned["cwd"], planned["stdin_chars"]) == (True, str(world.workdir), 11)
    assert world.calls() == []


def test_every_option_of_a_prompt_reaches_the_backend(world: World) -> None:
    (world.workdir / "notes.txt").write_text("remember this", encoding="utf-8")
    done = run(
        world, "-o", "json", "--file", "notes.txt", "--tag", "t1", "--tag", "t2", "--metadata", "ticket=42",
        "--system-prompt", "be brief", "--max-turns", "3", "--sandbox-mode", "read-only", "hello",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (call,) = world.calls()
    assert "remember this" in call["prompt"]
    assert any("system-prompt" in word for word in call["argv"])
    shown = json.loads(run(world, "-o", "json", "sessions", "show", json.loads(done.stdout)["session_id"]).stdout)
    assert (shown["session"]["tags"], shown["metadata"]) == (["t1", "t2"], {"ticket": "42"})


def test_an_answer_can_be_asked_to_match_a_schema(world: World) -> None:
    schema = world.workdir / "schema.json"
    schema.write_text('{"type": "object", "required": ["a"]}', encoding="utf-8")
    words = ("-b", "offline", "-o", "json", "--output-schema", "schema.json")
    assert json.loads(run(world, *words, 'offline:json={"a": 1}').stdout)["structured_output"] == {"a": 1}
    schema.write_text("[1]", encoding="utf-8")
    assert "no JSON object" in run(world, *words, "hi").stderr


def test_a_run_in_the_background_is_a_run_id_to_wait_for(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    done = run(world, "--background", steps({"reach": str(up)}, {"wait": str(held)}, {"answer": "late"}))
    run_id = done.stdout.strip()
    assert (done.returncode, run_id.isalnum()) == (0, True)
    reached(up.path)
    assert run(world, "runs", "wait", run_id, "--timeout", "0").returncode == 6
    again = subprocess.Popen(
        [*COMMAND, "runs", "wait", run_id],
        env=world.environ, cwd=world.workdir, stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    with again:
        subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)
        output, _ = again.communicate(timeout=PATIENCE_SECS)
    assert (again.returncode, output) == (0, "late\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_keeps_what_there_was(world: World, number: signal.Signals) -> None:
    up = world.fifo("up")
    prompt = steps(
        {"ignore": True}, {"answer": "so far"}, {"spawn": ["setsid", "daemon"]}, {"reach": str(up)}, {"hang": True}
    )
    with started(world, prompt) as process:
        told = reached(up.path)
        pidfds = [os.pidfd_open(pid) for pid in (told["pid"], *told["spawned"].values())]
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_SECS)
    assert all(gone(fd) for fd in pidfds)
    assert (process.returncode, output) == (7, b"so far\n")
    assert b"cancelled" in errors
    assert b"Traceback" not in errors


def test_a_signal_leaves_the_run_to_another_terminal_that_asked_the_same(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    prompt = steps({"reach": str(up)}, {"wait": str(held)}, {"answer": "shared"})
    with started(world, prompt) as first, started(world, prompt) as second:
        run_id = reached(up.path)["run"]
        handed = world.home / "runs" / run_id / "handed"
        subprocess.run(["sh", "-c", f"until [ -e {handed} ]; do sleep 0.01; done"], timeout=PATIENCE_SECS, check=True)
        driver, waiting = (first, second) if is_driven_by(first, world, run_id) else (second, first)
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate(timeout=PATIENCE_SECS)
        assert (driver.returncode, output) == (7, b"")
        assert f"run {run_id} goes on" in errors.decode()
        subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)
        output, _ = waiting.communicate(timeout=PATIENCE_SECS)
    assert (waiting.returncode, output) == (0, b"shared\n")
    assert len(world.calls()) == 1


@pytest.mark.parametrize("other", ["asked the same", "waited by the id"])
def test_a_signal_stops_the_run_that_another_terminal_has_left(world: World, other: str) -> None:
    up = world.fifo("up")
    prompt = steps({"reach": str(up)}, {"hang": True})
    with started(world, prompt) as driver:
        told = reached(up.path)
        pidfd = os.pidfd_open(told["pid"])
        handed = world.home / "runs" / told["run"] / "handed"
        with started(world, *([prompt] if other == "asked the same" else ["runs", "wait", told["run"]])) as leaver:
            subprocess.run(
                ["sh", "-c", f"until [ -e {handed} ]; do sleep 0.01; done"], timeout=PATIENCE_SECS, check=True
            )
            leaver.send_signal(signal.SIGINT)
            assert leaver.wait(PATIENCE_SECS) == 7
        driver.send_signal(signal.SIGINT)
        _, errors = driver.communicate(timeout=PATIENCE_SECS)
    assert gone(pidfd)
    assert driver.returncode == 7
    assert b"goes on" not in errors


def is_driven_by(process: subprocess.Popen[bytes], world: World, run_id: str) -> bool:
    """Whether a process has the lock of a run open."""
    lock = world.home / "runs" / run_id / "run.lock"
    return any(path.exists() and path.samefile(lock) for path in Path(f"/proc/{process.pid}/fd").iterdir())


def test_a_second_signal_does_not_wait_for_anything(world: World) -> None:
    up = world.fifo("up")
    environ = {**world.environ, "CLINVK_LIMITS__KILL_GRACE_SECS": "30"}
    with subprocess.Popen(
        [*COMMAND, steps({"ignore": True}, {"reach": str(up)}, {"hang": True})],
        env=environ, cwd=world.workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        told = reached(up.path)
        pidfd = os.pidfd_open(told["pid"])
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 7
    os.kill(told["pid"], signal.SIGKILL)  # its keeper would give it 30 s
    assert gone(pidfd)


def test_a_killed_command_leaves_no_process_and_its_run_is_cancelled(world: World) -> None:
    up = world.fifo("up")
    with started(world, steps({"say": "so far"}, {"reach": str(up)}, {"hang": True})) as process:
        told = reached(up.path)
        pidfd = os.pidfd_open(told["pid"])
        process.kill()
        assert gone(pidfd)
    waited = run(world, "runs", "wait", told["run"])
    assert (waited.returncode, waited.stdout) == (7, "so far\n")


def test_a_reader_that_does_not_read_does_not_hold_up_a_signal(world: World) -> None:
    up = world.fifo("up")
    read, write = os.pipe()
    try:
        with started(
            world, "--stream", steps({"chars": 2_000_000}, {"reach": str(up)}, {"hang": True}), stdout=write
        ) as process:
            told = reached(up.path)
            pidfd = os.pidfd_open(told["pid"])
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_SECS) == 7
            assert gone(pidfd)
    finally:
        os.close(read)
        os.close(write)


def test_a_reader_that_leaves_ends_the_run_without_a_word(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    read, write = os.pipe()
    prompt = steps({"reach": str(up)}, {"wait": str(held)}, {"chars": 100_000}, {"hang": True})
    with started(world, "--stream", prompt, stdout=write) as process:
        os.close(write)
        told = reached(up.path)
        pidfd = os.pidfd_open(told["pid"])
        os.close(read)
        subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)
        _, errors = process.communicate(timeout=PATIENCE_SECS)
    assert gone(pidfd)
    assert (process.returncode, errors) == (141, b"")


def test_the_same_request_that_runs_in_the_background_is_not_done_twice(world: World) -> None:
    up, held = world.fifo("up"), world.fifo("held")
    prompt = steps({"reach": str(up)}, {"wait": str(held)}, {"answer": "once"})
    run_id = run(world, "--background", prompt).stdout.strip()
    reached(up.path)
    with started(world, "-o", "json", prompt) as process:
        subprocess.run(["sh", "-c", f": > {held}"], timeout=PATIENCE_SECS, check=True)
        output, _ = process.communicate(timeout=PATIENCE_SECS)
    result = json.loads(output)
    assert (result["run_id"], result["output"]) == (run_id, "once")
    assert len(world.calls()) == 1
