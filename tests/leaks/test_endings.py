"""However a run ends, nothing that it started is alive afterwards, and its record says how it ended."""

import json
import os
import signal
from typing import Any

import anyio
import pytest

from clinvk.events import TextDelta
from clinvk.executor.live import LiveRun
from clinvk.request import CancelRequest, PromptRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt as prompts
from clinvk.tools import runs
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, Fifo, World

pytestmark = pytest.mark.anyio

OBEDIENCE = pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "ignores"])


def script(world: World, obeys: bool, *last: agent.Step) -> str:
    """An agent with every kind of straggler, that reports at `up` and then does `last`."""
    first: list[agent.Step] = [] if obeys else [{"ignore": True}]
    return agent.prompt(
        *first,
        {"spawn": [*agent.KINDS]},
        {"answer": "so far"},
        {"reach": str(world.fifo("up"))},
        *last,
    )


def begin(app: App, world: World, prompt: str, **options: object) -> LiveRun:
    request = PromptRequest.model_validate({"prompt": prompt, "backend": "claude", **options})
    return prompts.start(app, request, world.caller())


async def up(world: World) -> dict[str, Any]:
    """Wait until the agent has all its processes, and watch them."""
    told = await Fifo(world.root / "up.fifo").reached()
    world.processes.watch_agent(told)
    return told


async def ended(live: LiveRun) -> PromptResult:
    with anyio.fail_after(PATIENCE_SECS):
        await live.done.wait()
    assert isinstance(live.result, PromptResult)
    return live.result


def supervisor(app: App, live: LiveRun) -> int:
    """The pid of the run's supervisor."""
    state = json.loads((app.runs.path(live.record.id) / "keeper.json").read_bytes())
    pid: int = state["supervisor"]["pid"]
    return pid


def keeper(app: App) -> int:
    """The pid of the app's keeper."""
    process = app.executor.keeper._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    return process.pid


@OBEDIENCE
async def test_stragglers_of_a_completed_run_are_ended(world: World, obeys: bool) -> None:
    async with world.app() as app:
        held = world.fifo("held")
        live = begin(app, world, script(world, obeys, {"wait": str(held)}))
        await up(world)
        await held.release()
        result = await ended(live)
        await world.processes.ended()
    assert (result.status, result.output) == ("completed", "so far")


@OBEDIENCE
async def test_a_run_past_its_deadline_is_ended(world: World, obeys: bool) -> None:
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"hang": True}), timeout_secs=2)
        await up(world)
        result = await ended(live)
        await world.processes.ended()
    assert (result.status, result.error and result.error.code) == ("failed", "timeout")
    assert (result.output, result.partial) == ("so far", True)


@OBEDIENCE
async def test_a_silent_run_is_ended(world: World, obeys: bool) -> None:
    async with world.app(limits__stall_secs=1.5) as app:
        live = begin(app, world, script(world, obeys, {"hang": True}))
        await up(world)
        result = await ended(live)
        await world.processes.ended()
    assert (result.status, result.error and result.error.code) == ("failed", "stalled")
    assert (result.output, result.partial) == ("so far", True)


@OBEDIENCE
async def test_a_cancelled_run_is_ended(world: World, obeys: bool) -> None:
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"hang": True}))
        await up(world)
        with anyio.fail_after(PATIENCE_SECS):
            cancelled = await runs.cancel(app, CancelRequest(run_id=live.record.id))
        result = await ended(live)
        await world.processes.ended()
    assert cancelled.status == result.status == "cancelled"
    assert (result.output, result.partial) == ("so far", True)


@OBEDIENCE
async def test_a_run_whose_app_closes_is_ended(world: World, obeys: bool) -> None:
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"hang": True}))
        await up(world)
    result = await ended(live)
    await world.processes.ended()
    assert (result.status, result.output) == ("cancelled", "so far")


async def heard(live: LiveRun) -> None:
    """Wait until the agent's first words have come all the way: what is in the pipe dies with the supervisor."""
    said = anyio.Event()
    live.listeners.add(lambda _run, _backend, event: said.set() if isinstance(event, TextDelta) else None)
    with anyio.fail_after(PATIENCE_SECS):
        if not live.newest_text:
            await said.wait()


async def kill_supervisor(app: App, live: LiveRun) -> None:
    await heard(live)
    os.kill(supervisor(app, live), signal.SIGKILL)


async def kill_both(app: App, live: LiveRun) -> None:
    await heard(live)
    pid = supervisor(app, live)
    # stopped first, so that the keeper cannot clean up in between
    os.kill(keeper(app), signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(keeper(app), signal.SIGKILL)


@OBEDIENCE
async def test_a_run_whose_supervisor_is_killed_is_ended(world: World, obeys: bool) -> None:
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"hang": True}))
        await up(world)
        await kill_supervisor(app, live)
        result = await ended(live)
        await world.processes.ended()
        assert await prompts.prompt(app, PromptRequest(prompt="hi", backend="claude"), world.caller())
    assert (result.status, result.error and result.error.code) == ("interrupted", "interrupted")
    assert (result.output, result.partial, result.duration_ms > 0) == ("so far", True, True)


@OBEDIENCE
async def test_a_run_whose_keeper_is_killed_goes_on(world: World, obeys: bool) -> None:
    held = world.fifo("held")
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"wait": str(held)}, {"answer": "to the end"}))
        await up(world)
        os.kill(keeper(app), signal.SIGKILL)
        await held.release()
        result = await ended(live)
        await world.processes.ended()
        again = await prompts.prompt(app, PromptRequest(prompt="hi", backend="claude"), world.caller())
    assert (result.status, result.output) == ("completed", "to the end")
    assert isinstance(again, PromptResult)
    assert again.status == "completed"


@OBEDIENCE
async def test_a_run_whose_supervisor_and_keeper_are_killed_is_ended(world: World, obeys: bool) -> None:
    """All but a daemon that cleared its environment: nothing is left that could tell whose it is."""
    async with world.app() as app:
        live = begin(app, world, script(world, obeys, {"hang": True}))
        told = await up(world)
        await kill_both(app, live)
        result = await ended(live)
        os.kill(told["spawned"]["cleared"], signal.SIGKILL)
        await world.processes.ended()
    assert (result.status, result.error and result.error.code) == ("interrupted", "interrupted")
    assert (result.output, result.partial) == ("so far", True)


@pytest.mark.parametrize("kind", ["writer", "hydra"])
async def test_a_straggler_that_never_rests_is_ended(world: World, kind: str) -> None:
    async with world.app(limits__max_output_bytes=1 << 20) as app:
        fifo, held = world.fifo("up"), world.fifo("held")
        steps: list[agent.Step] = [{"spawn": [kind]}, {"answer": "hi"}, {"reach": str(fifo)}, {"wait": str(held)}]
        live = begin(app, world, agent.prompt(*steps))
        told = await up(world)
        await held.release()
        await ended(live)
        await world.processes.ended()
        with pytest.raises(ProcessLookupError):
            os.killpg(told["pid"], 0)
