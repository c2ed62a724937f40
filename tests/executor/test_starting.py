"""Commands that cannot be started, and what a run holds while and after it goes on."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from clinvk.errors import ClinvkError
from clinvk.events import Ending
from clinvk.executor import keeper as keepers
from clinvk.executor.process import Keeper, Launch, Limits, keeping, read_ending
from clinvk.executor.stdin import open_stdin
from clinvk.executor.supervisor import Spool
from clinvk.request import PromptRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt, waiting
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio

LIMITS = Limits(timeout_secs=20, stall_secs=0, max_output_bytes=1 << 20, grace_secs=0.1)


def launch_in(folder: Path, *argv: str, cwd: Path | None = None) -> Launch:
    folder.mkdir(exist_ok=True)
    (folder / "stdin").touch()
    return Launch(folder=folder, argv=argv, env={}, cwd=cwd or folder, stdin=folder / "stdin", limits=LIMITS)


async def ending_of(keeper: Keeper, folder: Path, *argv: str, cwd: Path | None = None) -> Ending:
    launch = launch_in(folder, *argv, cwd=cwd)
    with anyio.fail_after(PATIENCE_SECS):
        async with keeper.running(launch) as process:
            while process.ending is None:
                await process.news()
    return process.ending


@pytest.mark.parametrize(
    ("program", "cwd", "names"),
    [
        ("{folder}/no-such-program", "{folder}", "{folder}/no-such-program"),
        ("{folder}/stdin", "{folder}", "{folder}/stdin"),
        ("/bin/true", "{folder}/no-such-folder", "{folder}/no-such-folder"),
        ("/bin/true", "{folder}/stdin", "{folder}/stdin"),
    ],
    ids=["no program", "not executable", "no folder", "folder is a file"],
)
async def test_what_cannot_be_started_is_named(tmp_path: Path, program: str, cwd: str, names: str) -> None:
    folder = tmp_path / "run"
    with keeping() as keeper:
        ending = await ending_of(keeper, folder, program.format(folder=folder), cwd=Path(cwd.format(folder=folder)))
        alive = await ending_of(keeper, tmp_path / "next", "/bin/true")
    assert ending.reason == "spawn_failed"
    assert names.format(folder=folder) in ending.message
    assert (alive.reason, alive.exit_code) == ("exited", 0)
    assert read_ending(folder) == ending


async def test_a_stdin_whose_writer_was_killed_meanwhile_is_at_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "stdin")
    with keeping() as keeper:
        ending = await ending_of(keeper, folder, "/bin/cat")
    assert (ending.reason, ending.exit_code) == ("exited", 0)


@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 20) - 1])
async def test_what_a_command_is_to_read_outlasts_who_wrote_it(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "run"
    launch = launch_in(folder, "/bin/cat")
    with keeping() as keeper, anyio.fail_after(PATIENCE_SECS):
        async with AsyncExitStack() as stack:
            with open_stdin(folder / "stdin", b"x" * size) as stdin:
                stdin.close()
                process = await stack.enter_async_context(keeper.running(launch, [stdin.reader]))
            while process.ending is None:
                await process.news()
    ending = read_ending(folder)
    assert ending is not None
    assert (ending.reason, ending.exit_code) == ("exited", 0)
    assert (folder / "stdout").read_bytes() == b"x" * size


async def test_a_prompt_outlasts_a_server_that_ends_before_its_command_begins(world: World) -> None:
    text = "please " * 40_000
    caller = replace(world.caller(), asks_later=True)  # its command takes the prompt from a pipe
    async with world.app() as app:
        keeper = app.executor.keeper._process  # pyright: ignore[reportPrivateUsage]
        assert keeper is not None
        keeper.send_signal(signal.SIGSTOP)
        begun = await prompt.prompt(app, PromptRequest(prompt=text, backend="claude", wait_secs=0), caller)
        assert isinstance(begun, PromptResult)
        await anyio.wait_all_tasks_blocked()
        assert app.executor.live[begun.run_id].stage == "running"  # its command is asked for
    os.kill(keeper.pid, signal.SIGCONT)  # Popen believes that it has ended
    async with world.app() as app:
        result = await waiting.rejoined(app, begun.run_id, PATIENCE_SECS, caller)
    assert isinstance(result, PromptResult)
    assert (result.status, result.output_chars) == ("completed", len(f"echo: {text}".strip()))


async def test_a_run_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with keeping() as keeper:
        launch = replace(launch_in(tmp_path / "run", "/bin/true"), folder=tmp_path / "gone")
        with anyio.fail_after(PATIENCE_SECS):
            async with keeper.running(launch) as process:
                while process.ending is None:
                    await process.news()
    assert process.ending.reason == "disk_full"
    assert str(tmp_path / "gone") in process.ending.message


async def test_a_very_long_error_still_leaves_a_readable_ending(tmp_path: Path) -> None:
    with keeping() as keeper:
        ending = await ending_of(keeper, tmp_path / "run", "/" + "x/" * 2000)
    assert ending.reason == "spawn_failed"
    assert read_ending(tmp_path / "run") == ending


async def test_a_very_long_error_in_another_script_leaves_a_readable_ending(tmp_path: Path) -> None:
    with keeping() as keeper:
        ending = await ending_of(keeper, tmp_path / "run", "/" + "路/" * 1000)
    assert ending.reason == "spawn_failed"
    assert read_ending(tmp_path / "run") == ending


async def test_an_argument_that_no_program_can_get_is_refused(tmp_path: Path) -> None:
    with keeping() as keeper:
        ending = await ending_of(keeper, tmp_path / "run", "/bin/true", "a\0b")
    assert ending.reason == "spawn_failed"
    assert "null" in ending.message


async def test_a_keeper_out_of_descriptors_fails_the_run_and_serves_again_later(tmp_path: Path) -> None:
    with keeping() as keeper:
        process = keeper._process  # pyright: ignore[reportPrivateUsage]
        assert process is not None
        assert (await ending_of(keeper, tmp_path / "first", "/bin/true")).reason == "exited"
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        refused = await ending_of(keeper, tmp_path / "second", "/bin/true")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        after = await ending_of(keeper, tmp_path / "third", "/bin/true")
    assert (refused.reason, "too many files" in refused.message) == ("spawn_failed", True)
    assert after.reason == "exited"


KEEPER_WITHOUT_FORK = """
import os
from clinvk.executor import keeper

def refuse():
    raise BlockingIOError(11, "Resource temporarily unavailable")

os.fork = refuse
keeper.main()
"""


def test_a_keeper_that_may_not_fork_says_so_and_lives_on(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", KEEPER_WITHOUT_FORK, str(theirs.fileno())]
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        for _ in range(2):
            control, given = socket.socketpair()
            with control:
                with given:
                    keepers.send(ours, {"do": "spawn", "folder": str(tmp_path)}, [given.fileno()])
                control.settimeout(PATIENCE_SECS)
                told = control.recv(4096)
            assert told.startswith(b"X ")
            assert json.loads(told[2:])["reason"] == "spawn_failed"
            assert b"Resource temporarily unavailable" in told
        ours.close()
        assert process.wait(PATIENCE_SECS) == 0


async def test_an_heir_is_started_also_where_its_log_cannot_be_written(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (tmp_path / "lock").open("w") as lock, keeping() as keeper:
        script = f"open({str(fifo)!r}, 'w').write(sys.argv[2])"
        argv = [sys.executable, "-c", f"import sys; {script}"]
        keeper.set_heir("id", argv, tmp_path / "gone" / "log", lock.fileno())
    with anyio.fail_after(PATIENCE_SECS):
        told = await anyio.to_thread.run_sync(fifo.read_text, abandon_on_cancel=True)
    assert told.startswith("id:")


async def test_a_process_that_cannot_connect_to_its_keeper_gives_a_clear_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with keeping() as keeper:
        launch = launch_in(tmp_path, "/bin/true")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(ClinvkError) as refused:
                async with keeper.running(launch):
                    raise AssertionError("it was started")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.failure.code == "spawn_failed"
    assert "Too many open files" in refused.value.failure.message
    assert "ulimit" in (refused.value.failure.hint or "")


async def test_a_child_gets_default_signals_its_own_session_and_no_foreign_descriptors(tmp_path: Path) -> None:
    script = "ls -l /proc/self/fd; grep SigIgn /proc/self/status; ps -o sid=,pid= -p $$"
    with keeping() as keeper:
        await ending_of(keeper, tmp_path / "run", "/bin/sh", "-c", script)
    told = (tmp_path / "run" / "stdout").read_text(encoding="utf-8")
    descriptors = [line.split()[-3] for line in told.splitlines() if "->" in line]
    sid, pid = told.split()[-2:]
    assert descriptors == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    of_the_c_library = 0b11 << 31  # signals 32 and 33 cannot be set by programs
    assert int(told.split("SigIgn:")[1].split()[0], 16) & ~of_the_c_library == 0
    assert sid == pid


async def test_a_session_is_free_as_soon_as_its_turn_has_ended(world: World) -> None:
    async with world.app() as app:
        result = await prompt.prompt(app, PromptRequest(prompt="one", backend="claude"), world.caller())
        assert isinstance(result, PromptResult)
        for number in range(12):
            request = PromptRequest(prompt=f"turn {number}", session_id=result.session_id)
            result = await prompt.prompt(app, request, world.caller())
            assert isinstance(result, PromptResult)
            assert result.status == "completed"


async def test_a_process_whose_first_run_continues_a_session_frees_it(world: World) -> None:
    async with world.app() as app:
        result = await prompt.prompt(app, PromptRequest(prompt="one", backend="claude"), world.caller())
    assert isinstance(result, PromptResult)
    for number in range(3):
        async with world.app() as app:
            for turn in range(2):
                request = PromptRequest(prompt=f"{number} {turn}", session_id=result.session_id)
                result = await prompt.prompt(app, request, world.caller())
                assert isinstance(result, PromptResult)


async def test_no_descriptor_is_left_behind(world: World) -> None:
    async with world.app() as app:

        async def one(text: str) -> None:
            result = await prompt.prompt(app, PromptRequest(prompt=text, backend="claude"), world.caller())
            assert isinstance(result, PromptResult)

        for number in range(3):
            await one(f"warm {number}")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for number in range(10):
            await one(f"then {number}")
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_file_system_that_cannot_splice_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuse)
    spool = Spool()
    spool.into(str(tmp_path / "stdout"), 1 << 20)
    os.write(spool.write_fd, b"some words")
    os.close(spool.write_fd)
    taken = [spool.take(), spool.take()]
    os.close(spool.read_fd)
    os.close(spool.file)
    assert (taken, spool.open, spool.failed) == ([10, 0], False, None)
    assert (tmp_path / "stdout").read_bytes() == b"some words"


async def test_a_variable_that_a_file_would_set_is_empty_unless_clinvk_sets_it(world: World) -> None:
    (world.workdir / ".env").write_text("SET_BY_PROJECT=1\nLANG=x\nTMPDIR=/x\n", encoding="utf-8")
    async with world.app() as app:
        request = PromptRequest(prompt="hello", backend="gemini", sandbox_mode="read-only")
        await prompt.prompt(app, request, world.caller())
    [call] = world.calls("gemini")
    assert (call["env"]["SET_BY_PROJECT"], call["env"]["LANG"]) == ("", "C.UTF-8")
    assert call["env"]["TMPDIR"] not in ("", "/x")


def test_a_full_disk_whose_file_system_cannot_splice_drops_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice")
    spool = Spool()
    spool.into("/dev/full", 1 << 20)
    os.write(spool.write_fd, b"some words")
    first = spool.take()
    os.write(spool.write_fd, b"more")
    os.close(spool.write_fd)
    taken = [first, spool.take(), spool.take()]
    os.close(spool.read_fd)
    os.close(spool.file)
    assert (taken, spool.open) == ([0, 4, 0], False)
    assert spool.failed is not None
    assert spool.failed.errno == errno.ENOSPC


async def test_the_environment_is_built_and_not_inherited(world: World) -> None:
    foreign = {
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CODEX_SANDBOX": "seatbelt",
        "GEMINI_API_KEY": "g",
        "CODEX_API_KEY": "o",
        "CLINVK_API_KEYS": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "LD_PRELOAD": "",
        "PYTHONPATH": "/nowhere",
    }
    world.environ.update(foreign, ANTHROPIC_API_KEY="a", LC_TIME="C")
    async with world.app() as app:
        await prompt.prompt(app, PromptRequest(prompt=agent.prompt({"answer": "hi"}), backend="claude"), world.caller())
    [call] = world.calls()
    env = call["env"]
    assert not set(foreign) & set(env)
    assert (env["ANTHROPIC_API_KEY"], env["LC_TIME"], env["CLINVK_DEPTH"]) == ("a", "C", "1")
    assert env["CLINVK_CHAIN_ID"] == env["CLINVK_RUN_ID"]
    assert (call["cwd"], env["HOME"]) == (str(world.workdir), world.environ["HOME"])
