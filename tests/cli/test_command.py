"""The command as a process; `scripts/check` runs these tests against the installed wheel."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clinvk import __version__
from clinvk.awaiting import awaited
from clinvk_command import COMMAND, MOST_SECS, NO_AGENTS, answered, clinvk, environment

VERBS = ("mcp", "backends", "doctor", "config", "demo", "version")


def test_version_is_the_packages() -> None:
    assert clinvk("version").stdout == f"clinvk {__version__}\n"
    assert clinvk("--version").stdout == f"clinvk {__version__}\n"


@pytest.mark.parametrize("words", [("version", "-o", "json"), ("-o", "json", "version")])
def test_global_flags_may_stand_before_and_after_the_verb(words: tuple[str, ...]) -> None:
    assert answered(clinvk(*words))["version"] == __version__


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    done = clinvk(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: clinvk {verb}" in done.stdout


def test_help_of_an_action_can_be_asked_for_in_words() -> None:
    assert "usage: clinvk sessions list" in clinvk("help", "sessions", "list").stdout


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("config", "path"), {"path"}),
        (("config", "set", "limits.max_depth", "1"), {"key", "path"}),
        (("install", "codex", "--print"), {"client", "path", "changed", "backup", "entry"}),
    ],
)
def test_every_result_can_be_had_as_json(words: tuple[str, ...], keys: set[str]) -> None:
    assert set(answered(clinvk("-o", "json", *words))) == keys


def test_stream_json_is_one_line_where_there_is_no_stream() -> None:
    done = clinvk("-o", "stream-json", "config", "get", "limits")
    assert (answered(done)["max_depth"], done.stdout.count("\n")) == (2, 1)


def test_the_help_lists_every_verb_and_the_exit_codes() -> None:
    shown = clinvk("--help").stdout
    assert all(f"\n    {verb} " in shown for verb in VERBS)
    assert "2 backend not available" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "standard input is empty"),
        (("doctr",), "did you mean 'doctor'?"),
        (("version", "--colour"), "clinvk: version takes no --colour\n  hint: see clinvk version --help"),
        (("version", "now"), "version takes no argument 'now'"),
        (("--dry-run", "sessions", "list"), "sessions list takes no --dry-run"),
        (("-c", "parallel", "-f", "x"), "parallel takes no -c"),
        (("-m", "opus", "backends"), "backends takes no -m"),
        (("-o", "json", "mcp"), "mcp takes no -o"),
        (("-o", "json", "completion", "bash"), "completion takes no -o"),
        (("--sandbox", "read-only", "hello"), "did you mean --sandbox-mode?"),
        (("-s", "", "go on"), "argument -s/--session: the value is empty"),
        (("-b", " ", "hello"), "argument -b/--backend: the value is empty"),
        (("-w", "", "hello"), "argument -w/--workdir: the value is empty"),
        (("-f", "x", "parallel"), "flags of parallel alone stand after it"),
        (("backends", "-o", "xml"), "invalid choice: 'xml'"),
        (("config",), "ACTION"),
        (("mcp", "--port", "many"), "invalid int value: 'many'"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused_with_a_hint(words: tuple[str, ...], said: str) -> None:
    done = clinvk(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("clinvk: ")
    assert "\n  hint: " in done.stderr
    assert said in done.stderr


def test_a_wrong_configuration_ends_with_3_and_names_the_place() -> None:
    env = environment(CLINVK_LIMITS__TIMEOUT_SECS="soon")
    done = clinvk("-o", "json", "backends", env=env)
    assert done.returncode == 3
    assert "CLINVK_LIMITS__TIMEOUT_SECS" in done.stderr
    assert answered(done)["error"]["code"] == "invalid_request"


def test_a_flag_of_mcp_is_checked_like_its_key() -> None:
    done = clinvk("mcp", "--transport", "http", "--port", "123456")
    assert done.returncode == 3
    assert "mcp.port" in done.stderr


def test_a_config_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    done = clinvk("--config", str(tmp_path / "none.yaml"), "backends")
    assert done.returncode == 3
    assert str(tmp_path / "none.yaml") in done.stderr


def test_config_set_get_show_path_and_lint_agree() -> None:
    path = Path(clinvk("config", "path").stdout.strip())
    assert clinvk("config", "set", "limits.timeout_secs", "77").returncode == 0
    assert path.read_text(encoding="utf-8") == "limits:\n  timeout_secs: 77\n"
    assert clinvk("config", "get", "limits.timeout_secs").stdout == "77.0\n"
    assert answered(clinvk("-o", "json", "config", "get", "limits"))["timeout_secs"] == 77
    rows = {row["key"]: row for row in answered(clinvk("-o", "json", "config", "show"))}
    assert rows["limits.timeout_secs"] == {"key": "limits.timeout_secs", "value": 77, "source": f"{path}:2"}
    assert f"# {path}:2" in clinvk("config", "show").stdout
    assert clinvk("config", "lint").returncode == 0


def test_config_lint_tells_of_file_and_environment_and_ends_with_3() -> None:
    path = Path(clinvk("config", "path").stdout.strip())
    path.parent.mkdir(parents=True)
    path.write_text("limits:\n  timeout_secs: -1\n", encoding="utf-8")
    done = clinvk("config", "lint", env=environment(CLINVK_MCP__POORT="1"))
    assert done.returncode == 3
    assert f"{path}:2" in done.stdout
    assert "CLINVK_MCP__POORT" in done.stdout


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("default_backend", "claud", "did you mean 'claude'?"),
        ("limits.max_dept", "1", "did you mean 'max_depth'?"),
        ("backends.codex.extra_flags", '["--sandbox=none"]', "flags that codex accepts in extra: --config"),
        ("backends.gemini.approval_mode", "always", "gemini accepts approval_mode: default, auto, none"),
    ],
)
def test_a_value_that_would_be_refused_is_not_written(key: str, value: str, said: str) -> None:
    done = clinvk("config", "set", key, value)
    assert done.returncode == 3
    assert done.stderr.startswith("clinvk: the command line: ")
    assert said in done.stderr
    assert not Path(clinvk("config", "path").stdout.strip()).exists()


def test_config_lint_finds_what_every_run_of_a_backend_would_refuse() -> None:
    path = Path(clinvk("config", "path").stdout.strip())
    path.parent.mkdir(parents=True)
    text = """backends:
  claude: {extra_flags: [--effort, --betas=x]}
  codex:
    extra_flags: [--config=model_verbosity=low, --api-key=private]
    approval_mode: always
  gemini: {allowed_tools: [Read]}
unified_flags:
  max_turns: 5
"""
    path.write_text(text, encoding="utf-8")
    done = clinvk("-o", "json", "config", "lint", env=environment())
    assert done.returncode == 3
    assert "private" not in done.stdout
    assert [(each["severity"], each["where"].removeprefix(str(path)), each["key"]) for each in answered(done)] == [
        ("error", ":2", "backends.claude.extra_flags"),
        ("error", ":5", "backends.codex.approval_mode"),
        ("error", ":4", "backends.codex.extra_flags"),
        ("warning", ":8", "unified_flags.max_turns"),
        ("error", ":6", "backends.gemini.allowed_tools"),
        ("warning", ":8", "unified_flags.max_turns"),
    ]


def test_a_backend_that_is_switched_off_is_told_with_where_that_was_done() -> None:
    done = clinvk("-b", "claude", "hello")
    assert done.returncode == 2
    said = "set backends.claude.enabled to true; it is false by environment variable CLINVK_BACKENDS__CLAUDE__ENABLED"
    assert said in done.stderr


def test_an_option_that_a_run_refuses_is_told_with_where_it_was_set() -> None:
    env = environment(**NO_AGENTS, CLINVK_UNIFIED_FLAGS__MAX_TURNS="5")
    assert "max_turns comes from unified_flags.max_turns (environment variable CLINVK_UNIFIED_FLAGS__MAX_TURNS)" in (
        clinvk("-b", "offline", "hello", env=env).stderr
    )
    assert "comes from" not in clinvk("-b", "offline", "--max-turns", "3", "hello", env=env).stderr


def test_quiet_leaves_out_warnings_but_no_errors() -> None:
    env = environment(CLINVK_BAKEND="claude")
    assert "CLINVK_BAKEND" in clinvk("config", "get", "limits.max_depth", env=env).stderr
    assert clinvk("-q", "config", "get", "limits.max_depth", env=env).stderr == ""
    assert clinvk("-q", "config", "get", "limits.depth", env=env).stderr != ""


def test_backends_without_an_agent_ends_with_2_and_says_what_to_do() -> None:
    done = clinvk("backends", "-o", "json")
    assert done.returncode == 2
    found = {info["name"]: info for info in answered(done)["backends"]}
    assert found["offline"]["available"]
    assert not found["claude"]["enabled"]
    assert "switched off in the configuration" in clinvk("backends").stdout


def test_the_configured_format_is_the_default() -> None:
    assert answered(clinvk("backends", env=environment(**NO_AGENTS, CLINVK_OUTPUT__FORMAT="json")))["backends"]


def test_a_reader_that_leaves_is_no_error_message() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, "config", "show"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=MOST_SECS,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "words",
    [
        ("version",),
        ("config", "show"),
        ("sessions", "list", "-o", "json"),
        ("-b", "offline", "hello"),
        ("-b", "offline", "-o", "json", "hello"),
        ("-b", "offline", "-o", "stream-json", "hello"),
        ("-b", "nobody", "-o", "json", "hello"),
    ],
)
def test_a_full_disk_is_told_without_a_traceback(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *words],
            env=environment(**NO_AGENTS),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=MOST_SECS,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "clinvk: standard output cannot be written: No space left on device",
        "  hint: make room, or let it go elsewhere; answers are kept: clinvk runs list",
    ]
    assert "Traceback" not in done.stderr


def test_where_nobody_takes_an_error_the_exit_code_tells_it() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "-b", "nobody", "hello"],
            env=environment(**NO_AGENTS),
            stdin=subprocess.DEVNULL,
            stderr=full,
            timeout=MOST_SECS,
            check=False,
        )
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("version",), 0, f"clinvk {__version__}\n"),
        (("-b", "offline", "hello"), 1, "clinvk: the current folder cannot be used: No such file or directory"),
        (("--config", "own.yaml", "backends"), 3, "clinvk: own.yaml: the current folder, in which it would be, cannot"),
    ],
)
def test_in_a_folder_that_was_deleted_it_says_so(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "gone").mkdir()
    script = "import os; os.rmdir(os.getcwd()); from clinvk.__main__ import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=environment(**NO_AGENTS),
        cwd=tmp_path / "gone",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def is_readable(fifo: Path) -> bool:
    """Wait until somebody has written to it."""
    fd = os.open(fifo, os.O_RDWR)  # for reading alone, opening would wait for a writer that may never come
    try:
        return bool(select.select([fd], [], [], MOST_SECS)[0])
    finally:
        os.close(fd)


def test_an_interrupt_ends_with_7_and_without_a_traceback(tmp_path: Path) -> None:
    reached, never = tmp_path / "reached", tmp_path / "never"
    os.mkfifo(reached)
    os.mkfifo(never)
    claude = tmp_path / "claude"
    claude.write_text(f"#!/bin/sh\necho >{reached}\nread x <{never}\n", encoding="utf-8")
    claude.chmod(0o755)
    env = environment(CLINVK_BACKENDS__CLAUDE__COMMAND=str(claude))
    process = subprocess.Popen(
        [*COMMAND, "backends"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert is_readable(reached)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=MOST_SECS)
    assert (process.returncode, output, errors) == (7, b"", b"clinvk: interrupted\n")


def test_a_signal_wakes_what_waits_for_an_event() -> None:
    async def wakes() -> int:
        fd = signal.set_wakeup_fd(-1)  # without one, a signal just before the loop waits is seen after the next event
        signal.set_wakeup_fd(fd)
        return fd

    assert awaited(wakes) != -1


def test_an_interrupt_after_all_is_done_does_not_disturb_the_end() -> None:
    script = "import signal; from clinvk.__main__ import main; code = main(); signal.raise_signal(signal.SIGINT)"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; raise SystemExit(code)", "config", "get", "nothing"],
        env=environment(**NO_AGENTS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=False,
    )
    assert done.returncode == 3
    assert "Interrupt" not in done.stderr


def test_a_command_that_is_done_does_not_go_through_its_memory_once_more() -> None:
    script = "import gc; from clinvk.__main__ import main; main(); print('left alone:', gc.get_freeze_count() > 0)"
    done = subprocess.run(
        [sys.executable, "-c", script, "version"],
        env=environment(**NO_AGENTS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=True,
    )
    assert done.stdout.endswith("left alone: True\n")


@pytest.mark.parametrize(
    "words",
    [
        ("sessions", "list"), ("runs", "list"), ("-b", "offline", "hi"), ("compare", "-b", "offline", "hi"),
        ("config", "set", "limits.max_depth", "1"), ("config", "show"), ("keys", "list"), ("backends",),
        ("mcp",), ("serve", "-p", "0"),
    ],
)  # fmt: skip
def test_every_command_says_that_its_home_is_no_folder_and_what_helps(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    done = clinvk(*words, env=environment(CLINVK_HOME=str(tmp_path / "file" / "home")))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{tmp_path / 'file'} is not a folder\n  hint: move it away, or set CLINVK_HOME to a folder" in done.stderr
