"""Prompts one after another: what is passed on, and when a chain stops."""

from typing import Any

import anyio
import pytest

from clinvk.errors import ClinvkError, Failure
from clinvk.request import CancelRequest, RunsRequest
from clinvk.response import ChainResult
from clinvk.tools import runs
from clinvk.tools.app import App
from fakes import agent
from fakes.calls import chained, task
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


async def refused_chain(app: App, world: World, *steps: dict[str, Any]) -> Failure:
    with pytest.raises(ClinvkError) as refused:
        await chained(app, world, *steps)
    assert app.runs.ids() == []
    assert world.calls() == []
    return refused.value.failure


async def test_a_step_is_fed_from_those_before(world: World) -> None:
    async with world.app() as app:
        result = await chained(
            app,
            world,
            {"prompt": "one", "backend": "claude", "name": "a"},
            {"prompt": "{{ previous }} two", "backend": "codex"},
            {"prompt": "{{steps.a}}/{{previous}}", "backend": "gemini"},
        )
    assert [one.output for one in result.results] == [
        "echo: one",
        "echo: echo: one two",
        "echo: echo: one/echo: echo: one two",
    ]
    assert (result.status, result.total_steps, result.completed_steps, result.failed_step) == ("completed", 3, 3, None)


async def test_what_looks_like_a_placeholder_in_an_answer_stays_text(world: World) -> None:
    tricky = "{{previous}} {{steps.b}} {{steps.a}}"
    async with world.app() as app:
        result = await chained(
            app,
            world,
            {**task({"answer": tricky}), "prompt": "ask", "name": "a"},
            {"prompt": "got {{steps.a}}", "backend": "codex", "name": "b"},
        )
        assert result.results[0].output == "echo: ask"
        agent.decide(world.bin, "claude", {"answer": tricky})
        result = await chained(
            app,
            world,
            {"prompt": "ask", "backend": "claude", "name": "a"},
            {"prompt": "got {{steps.a}}", "backend": "codex", "name": "b"},
        )
    assert result.results[1].output == f"echo: got {tricky}"


async def test_an_answer_that_is_longer_than_a_result_holds_is_passed_on_whole(world: World) -> None:
    agent.decide(world.bin, "claude", {"chars": 300_000})
    async with world.app() as app:
        await chained(
            app, world, {"prompt": "ask", "backend": "claude"}, {"prompt": "got {{previous}}", "backend": "codex"}
        )
    assert world.calls("codex")[0]["prompt_chars"] == 300_000 + len("got ")


@pytest.mark.parametrize("name", ["previous", "steps.missing", "steps.b", "steps.a.output", "", "nonsense"])
async def test_an_unknown_placeholder_is_refused_before_anything_runs(world: World, name: str) -> None:
    first: dict[str, Any] = {"prompt": "one", "backend": "claude", "name": "a"}
    last: dict[str, Any] = {"prompt": "two {{previous}}", "backend": "claude", "name": "b"}
    text = {"prompt": f"x {{{{{name}}}}}", "backend": "claude"}
    steps = [text, first] if name == "previous" else [first, text, last]
    async with world.app() as app:
        failure = await refused_chain(app, world, *steps)
    assert failure.code == "invalid_request"
    assert f"{{{{{name}}}}}" in failure.message


async def test_two_steps_of_one_name_are_refused(world: World) -> None:
    step = {"prompt": "one", "backend": "claude", "name": "a"}
    async with world.app() as app:
        failure = await refused_chain(app, world, step, step)
    assert failure.details == {"field": "steps[1].name", "value": "a"}


async def test_a_chain_stops_at_the_first_failure(world: World) -> None:
    async with world.app() as app:
        result = await chained(
            app,
            world,
            {"prompt": "one", "backend": "claude"},
            task({"say": "so far"}, {"fail": "it broke"}, name="bad"),
            {"prompt": "never", "backend": "claude"},
        )
    assert (result.status, result.completed_steps, result.failed_step) == ("failed", 1, 2)
    assert len(result.results) == 2
    assert result.error is not None
    assert "it broke" in result.error.message
    assert result.results[1].partial


async def test_a_chain_goes_on_after_a_failure_when_it_is_told_to(world: World) -> None:
    async with world.app() as app:
        result = await chained(
            app,
            world,
            task({"say": "so far"}, {"fail": "it broke"}),
            {"prompt": "got {{previous}}", "backend": "codex"},
            {"prompt": "x", "backend": "nope"},
            {"prompt": "last", "backend": "claude"},
            stop_on_failure=False,
        )
    assert [one.status for one in result.results] == ["failed", "completed", "failed", "completed"]
    assert result.results[1].output == "echo: got so far"
    assert (result.status, result.failed_step, result.completed_steps) == ("failed", 1, 2)


async def test_the_working_directory_is_passed_on_only_when_asked(world: World) -> None:
    (world.workdir / "below").mkdir()
    steps: list[dict[str, Any]] = [
        {"prompt": "one", "backend": "claude", "workdir": "below"},
        {"prompt": "two", "backend": "claude"},
    ]
    async with world.app() as app:
        await chained(app, world, *steps)
        await chained(app, world, *steps, pass_working_dir=True)
    below = str(world.workdir / "below")
    assert [call["cwd"] for call in world.calls()] == [below, str(world.workdir), below, below]


async def test_a_cancelled_chain_begins_no_further_step(world: World) -> None:
    up = world.fifo("up")
    async with world.app() as app:
        running = await chained(
            app,
            world,
            task({"reach": str(up)}, {"hang": True}),
            {"prompt": "never", "backend": "claude"},
            stop_on_failure=False,
            wait_secs=0,
        )
        world.processes.watch_agent(await up.reached())
        with anyio.fail_after(PATIENCE_SECS):
            await runs.cancel(app, CancelRequest(run_id=running.run_id))
        found = await runs.runs(app, RunsRequest(action="status", run_id=running.run_id), world.caller())
        await world.processes.ended()
    assert isinstance(found.result, ChainResult)
    assert (found.result.status, len(world.calls())) == ("cancelled", 1)
