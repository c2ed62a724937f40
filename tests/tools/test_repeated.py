"""The same request again: attached to what runs, given what nobody fetched, continued where it was cut off."""

import shutil
from typing import Any

import anyio
import pytest

from clinvk.request import ChainRequest, PromptRequest
from clinvk.response import ChainResult, PromptResult
from clinvk.tools import chain, prompt, settle
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


async def ask(app: App, world: World, text: str, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, "backend": "claude", **options})
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


async def chained(app: App, world: World, *prompts: str, **more: Any) -> ChainResult:
    request = ChainRequest.model_validate(
        {"steps": [{"prompt": text, "backend": "claude"} for text in prompts], **more}
    )
    with anyio.fail_after(PATIENCE_SECS):
        result = await chain.chain(app, request, world.caller())
    assert isinstance(result, ChainResult)
    return result


async def finished(app: App, run_id: str) -> None:
    with anyio.fail_after(PATIENCE_SECS):
        if run_id in app.executor.live:
            await app.executor.live[run_id].done.wait()


async def test_a_result_that_nobody_fetched_is_given_to_who_asks_again_even_after_a_restart(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "hello", wait_secs=0)
        await finished(app, first.run_id)
    async with world.app() as app:
        again = await ask(app, world, "hello")
        assert (again.run_id, again.status, again.output) == (first.run_id, "completed", "echo: hello")
        assert any("fresh=true" in warning for warning in again.warnings)
        anew = await ask(app, world, "hello")
    assert anew.run_id != first.run_id
    assert anew.warnings == []
    assert len(world.calls()) == 2


async def test_a_result_of_yesterday_is_no_answer_to_the_question_of_today(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "hello", wait_secs=0)
        await finished(app, first.run_id)
        record = app.runs.record(first.run_id)
        yesterday = record.model_copy(update={"created_at": record.created_at - 86_400})
        (app.runs.path(first.run_id) / "request.json").write_text(yesterday.model_dump_json(), encoding="utf-8")
    async with world.app() as app:
        today = await ask(app, world, "hello")
    assert (today.run_id != first.run_id, today.warnings) == (True, [])


async def test_other_options_are_another_request(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "hello", wait_secs=0)
        other = await ask(app, world, "hello", model="opus")
    assert first.run_id != other.run_id


async def test_a_cancelled_run_is_not_given_again(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, agent.prompt({"hang": True}), wait_secs=0)
        app.executor.live[first.run_id].cancel()
        await finished(app, first.run_id)
        again = await ask(app, world, agent.prompt({"hang": True}), wait_secs=0)
        assert again.run_id != first.run_id
        app.executor.live[again.run_id].cancel()


@pytest.mark.parametrize("wait_secs", [0, PATIENCE_SECS], ids=["handed out", "waited for"])
async def test_a_chain_that_was_cut_off_goes_on_after_its_last_completed_step(world: World, wait_secs: float) -> None:
    steps = ("one", "two {{previous}}", "three {{previous}}")
    async with world.app() as app:
        first = await chained(app, world, *steps, wait_secs=wait_secs)
        await finished(app, first.run_id)
        # As if the machine had stopped before the second step ended.
        one, two, three = app.runs.children(first.run_id)
        for path in (app.runs.path(first.run_id) / "result.json", app.runs.path(two) / "result.json"):
            path.unlink()
        (app.runs.path(two) / "keeper.json").unlink()
        shutil.rmtree(app.runs.path(three))
        (app.runs.path(first.run_id) / "children").write_text(f"{one}\n{two}\n", encoding="utf-8")
    async with world.app() as app:
        again = await chained(app, world, *steps)
        cut_off = settle.current(app, first.run_id)
        assert (cut_off.status, cut_off.error and cut_off.error.code) == ("interrupted", "interrupted")
    assert (again.status, again.completed_steps) == ("completed", 3)
    assert again.results[0].run_id == one
    assert [result.output for result in again.results] == [
        "echo: one",
        "echo: two echo: one",
        "echo: three echo: two echo: one",
    ]
    assert any(first.run_id in warning for warning in again.warnings)
    assert len(world.calls()) == 3 + 2


async def test_a_fresh_chain_does_everything_anew(world: World) -> None:
    async with world.app() as app:
        first = await chained(app, world, "one", wait_secs=0)
        await finished(app, first.run_id)
        (app.runs.path(first.run_id) / "result.json").unlink()
    async with world.app() as app:
        again = await chained(app, world, "one", fresh=True)
    assert (again.status, again.warnings) == ("completed", [])
    assert len(world.calls()) == 2
