"""A disk that is full or cannot be written: a clear error, and no record is damaged."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import needed
from clinvk.errors import ClinvkError
from clinvk.events import TextDelta
from clinvk.request import ChainRequest, PromptRequest, RunsRequest, SessionsRequest
from clinvk.response import ChainResult, PromptResult
from clinvk.tools import chain as chains
from clinvk.tools import prompt, runs, sessions
from clinvk.tools.app import App
from clinvk.tools.settle import settled
from clinvk.tools.waiting import ended
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio

MIB = 1 << 20
MS_RDONLY, MS_REMOUNT = 1, 32  # mount(2)


def mount(target: Path, flags: int = 0, options: str = "") -> int:
    """mount(2) of a tmpfs; 0 or the error number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(target).encode(), b"tmpfs", flags, options.encode()) == 0:
        return 0
    return ctypes.get_errno()


async def remount(target: Path, flags: int = 0) -> None:
    """Change a mounted disk as soon as nobody writes on it."""
    with anyio.fail_after(PATIENCE_SECS):
        while (error := mount(target, MS_REMOUNT | flags, "size=3m")) == errno.EBUSY:
            await anyio.lowlevel.checkpoint()
    assert error == 0


@pytest.fixture
def small(world: World) -> Iterator[World]:
    """A world whose home is a disk of 3 MiB."""
    world.home.mkdir()
    error = mount(world.home, options="size=3m,mode=700")
    if error:
        needed.absent("mount", f"cannot mount a small disk here: {os.strerror(error)}")
    yield world
    world.processes.kill()
    ctypes.CDLL(None).umount2(str(world.home).encode(), 2)  # MNT_DETACH


async def run(app: App, world: World, *steps: agent.Step) -> PromptResult:
    return await asked(app, world, PromptRequest(prompt=agent.prompt(*steps), backend="claude"))


async def asked(app: App, world: World, request: PromptRequest) -> PromptResult:
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


async def shown(app: App, world: World, run_id: str) -> PromptResult:
    found = await runs.runs(app, RunsRequest(action="status", run_id=run_id), world.caller())
    assert isinstance(found.result, PromptResult)
    return found.result


def fill(home: Path) -> Path:
    """Use up the disk; the file to delete to have space again."""
    path = home / "ballast"
    with path.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"\0" * 4096)
        except OSError:
            return path


async def test_output_that_does_not_fit_stops_the_run_with_a_clear_error(small: World) -> None:
    async with small.app() as app:
        result = await run(app, small, {"answer": "first words"}, {"flood": 8}, {"hang": True})
        assert app.runs.record(result.run_id).id == result.run_id
        listed = await runs.runs(app, RunsRequest(action="list"), small.caller())
    assert (result.status, result.error and result.error.code) == ("failed", "internal")
    assert result.error is not None
    assert "No space left" in result.error.message
    assert result.partial
    assert listed.total == 1


async def test_a_full_disk_refuses_new_runs_and_space_makes_them_possible_again(small: World) -> None:
    async with small.app() as app:
        assert (await run(app, small, {"answer": "hi"})).status == "completed"
        ballast = fill(small.home)
        with pytest.raises(ClinvkError) as refused:
            await run(app, small, {"answer": "hi"})
        assert len(small.calls()) == 1
        ballast.unlink()
        assert (await run(app, small, {"answer": "again"})).status == "completed"
        listed = await runs.runs(app, RunsRequest(action="list"), small.caller())
    assert refused.value.failure.code == "internal"
    assert "No space left" in refused.value.failure.message
    assert "CLINVK_HOME" in (refused.value.failure.hint or "")
    assert (listed.total, listed.warnings) == (2, [])


async def test_a_result_that_cannot_be_saved_is_answered_and_settled_later(small: World) -> None:
    up, go = small.fifo("up"), small.fifo("go")
    results: list[PromptResult] = []
    told: dict[str, Any] = {}
    ballast = small.home / "ballast"
    async with small.app() as app:

        async def call() -> None:
            steps: list[agent.Step] = [{"answer": "the answer"}, {"reach": str(up)}, {"wait": str(go)}]
            results.append(await run(app, small, *steps))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            told |= await up.reached()
            fill(small.home)
            await go.release()
        # the command could write no more; what it had written is answered and the run is no less readable
        [result] = results
        assert result.output == "the answer"
        ballast.unlink()
        later = await shown(app, small, told["run"])
    assert (later.run_id, later.output) == (result.run_id, "the answer")
    assert later.status == result.status


@pytest.mark.parametrize("pages", range(1, 9))
async def test_wherever_a_run_meets_the_full_disk_its_record_says_what_was_answered(small: World, pages: int) -> None:
    chain = ChainRequest.model_validate({"steps": [{"prompt": text, "backend": "claude"} for text in ("one", "two")]})
    answered: list[tuple[str, str]] = []
    async with small.app() as app:
        for request in (PromptRequest(prompt="hello", backend="claude", ephemeral=True), chain):
            ballast = fill(small.home)
            os.truncate(ballast, ballast.stat().st_size - pages * 4096)
            with anyio.fail_after(PATIENCE_SECS), suppress(ClinvkError):
                if isinstance(request, ChainRequest):
                    told: object = await chains.chain(app, request, small.caller())
                else:
                    told = await asked(app, small, request)
                assert isinstance(told, PromptResult | ChainResult)
                answered.append((told.run_id, told.status))
            ballast.unlink()
    async with small.app() as app:
        recorded = [(run_id, settled(app, run_id).status) for run_id, _ in answered]
    assert recorded == answered
    assert len(app.runs.ids()) >= len(answered)


async def test_a_home_that_becomes_read_only_gives_a_clear_error(small: World) -> None:
    async with small.app() as app:
        first = await run(app, small, {"answer": "hi"})
        await remount(small.home, MS_RDONLY)
        with pytest.raises(ClinvkError) as refused:
            await run(app, small, {"answer": "hi"})
        assert (await shown(app, small, first.run_id)).output == "hi"
        await remount(small.home)
    assert refused.value.failure.code == "internal"
    assert "Read-only file system" in refused.value.failure.message
    assert str(small.home) in refused.value.failure.message


async def test_a_read_only_home_is_read(small: World) -> None:
    async with small.app() as app:
        unread = await asked(app, small, PromptRequest(prompt="hello there", backend="claude", wait_secs=0))
        with anyio.fail_after(PATIENCE_SECS):
            await ended(app, unread.run_id)
        done = app.runs.record(unread.run_id)
        cut_off = done.model_copy(update={"id": "cafe0001"})
        os.close(app.runs.create(cut_off))
        chain = cut_off.model_copy(update={"id": "cafe0002", "kind": "chain", "request": {"steps": [{"prompt": "a"}]}})
        os.close(app.runs.create(chain))
    await remount(small.home, MS_RDONLY)
    try:
        async with small.app() as app:
            listed = await runs.runs(app, RunsRequest(action="list"), small.caller())
            result = await shown(app, small, unread.run_id)
            interrupted = await shown(app, small, cut_off.id)
            output = await runs.runs(app, RunsRequest(action="output", run_id=unread.run_id), small.caller())
            found = await sessions.sessions(app, SessionsRequest(action="search", query="there"))
            turns = await sessions.sessions(app, SessionsRequest(action="show", session_id=result.session_id))
            with pytest.raises(ClinvkError, match="Read-only"):
                app.runs.delete(unread.run_id)
    finally:
        await remount(small.home)
    assert {run.run_id: run.status for run in listed.runs or ()} == {
        unread.run_id: "completed",
        cut_off.id: "interrupted",
        chain.id: "interrupted",
    }
    assert listed.warnings == []
    assert (result.output, output.text) == ("echo: hello there", "echo: hello there")
    assert (interrupted.status, interrupted.error and interrupted.error.code) == ("interrupted", "interrupted")
    assert [session.id for session in found.sessions] == [result.session_id]
    assert [turn.output for turn in turns.turns or ()] == ["echo: hello there"]


async def test_a_run_whose_folder_goes_away_is_answered_all_the_same(world: World) -> None:
    said, go = anyio.Event(), world.fifo("go")
    steps: list[agent.Step] = [{"answer": "the answer"}, {"wait": str(go)}]
    request = PromptRequest(prompt=agent.prompt(*steps), backend="claude")
    results: list[object] = []

    def hear(_run: str, _backend: str, event: object) -> None:
        if isinstance(event, TextDelta):
            said.set()

    async def call(app: App) -> None:
        results.append(await prompt.prompt(app, request, world.caller(hear)))

    async with world.app() as app, anyio.create_task_group() as tasks:
        tasks.start_soon(call, app)
        with anyio.fail_after(PATIENCE_SECS):
            await said.wait()
        (world.home / "runs").rename(world.home / "elsewhere")
        await go.release()
    [result] = results
    assert isinstance(result, PromptResult)
    assert (result.status, result.output) == ("completed", "the answer")
    assert [warning for warning in result.warnings if "could not be saved" in warning]


async def test_a_home_that_is_a_file_gives_a_clear_error(world: World) -> None:
    world.home.write_text("not a folder", encoding="utf-8")
    with pytest.raises(ClinvkError) as refused:
        async with world.app():
            raise AssertionError("it opened")
    assert str(world.home) in refused.value.failure.message


async def test_a_home_below_a_file_gives_a_clear_error(world: World) -> None:
    (world.root / "file").touch()
    below = replace(world, environ={**world.environ, "CLINVK_HOME": str(world.root / "file" / "home")})
    with pytest.raises(ClinvkError) as refused:
        async with below.app():
            raise AssertionError("it opened")
    assert "file/home" in refused.value.failure.message
