"""Parallel, chain and compare show what they would start, and start nothing."""

from typing import Any

import pytest

from clinvk.errors import ClinvkError, Failure
from clinvk.request import ChainRequest, CompareRequest, ParallelRequest
from clinvk.response import DryRunsResult, DryRunStep, DryRunTask
from clinvk.tools import chain, compare, parallel
from clinvk.tools.app import App
from fakes.world import World

pytestmark = pytest.mark.anyio

DRY = {"prompt": "x", "backend": "claude", "dry_run": True}


async def planned(app: App, world: World, given: dict[str, Any]) -> DryRunsResult:
    caller = world.caller()
    if "tasks" in given:
        result: object = await parallel.parallel(app, ParallelRequest.model_validate(given), caller)
    elif "steps" in given:
        result = await chain.chain(app, ChainRequest.model_validate(given), caller)
    else:
        result = await compare.compare(app, CompareRequest.model_validate(given), caller)
    assert isinstance(result, DryRunsResult)
    assert (app.runs.ids(), world.calls(), world.calls("codex"), world.calls("gemini")) == ([], [], [], [])
    return result


async def refusal(app: App, world: World, given: dict[str, Any]) -> Failure:
    with pytest.raises(ClinvkError) as refused:
        await planned(app, world, given)
    assert app.runs.ids() == []
    return refused.value.failure


async def test_tasks_are_shown_in_their_order_with_their_names(world: World) -> None:
    tasks = [{**DRY, "id": "a", "sandbox_mode": "read-only"}, {**DRY, "backend": "codex", "name": "second"}]
    async with world.app() as app:
        first, second = (await planned(app, world, {"tasks": tasks})).results
    assert isinstance(first, DryRunTask)
    assert isinstance(second, DryRunTask)
    assert (first.task, first.id, first.backend, first.cwd) == (1, "a", "claude", str(world.workdir))
    assert (second.task, second.name, second.backend) == (2, "second", "codex")
    assert first.argv[0] == str(world.bin / "claude")


async def test_steps_are_shown_where_they_would_work_and_with_what_is_filled_later(world: World) -> None:
    (world.workdir / "below").mkdir()
    steps = [{**DRY, "name": "plan", "workdir": "below"}, {**DRY, "prompt": "do {{steps.plan}}"}]
    async with world.app() as app:
        first, second = (await planned(app, world, {"steps": steps, "pass_working_dir": True})).results
    assert isinstance(second, DryRunStep)
    assert (second.step, second.cwd) == (2, str(world.workdir / "below"))
    assert (first.warnings, second.warnings) == ([], ["its prompt has placeholders, which are filled when it runs"])


async def test_a_comparison_is_shown_with_its_judge(world: World) -> None:
    asked = {"prompt": "which?", "models": {"codex": "m"}, "judge": "gemini", "dry_run": True}
    async with world.app() as app:
        results = (await planned(app, world, {**asked, "backends": ["claude", "codex"]})).results
    assert [(each.backend, each.model) for each in results] == [("claude", None), ("codex", "m"), ("gemini", None)]
    assert [bool(each.warnings) for each in results] == [False, False, True]


@pytest.mark.parametrize("field", ["tasks", "steps"])
async def test_running_some_and_showing_others_is_refused(world: World, field: str) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, {field: [{"prompt": "x", "backend": "claude"}, DRY]})
    assert (failure.code, failure.details) == ("invalid_request", {"field": f"{field}[1].dry_run"})


@pytest.mark.parametrize(
    ("given", "place", "field"),
    [
        ({"tasks": [DRY, {**DRY, "approval_mode": "always"}]}, "task 2: ", "tasks[1].approval_mode"),
        ({"steps": [{**DRY, "name": "n", "approval_mode": "always"}]}, "step 1 (n): ", "steps[0].approval_mode"),
        ({"steps": [{**DRY, "prompt": "{{steps.none}}"}]}, "step 1: unknown placeholder", "steps[0].prompt"),
        ({"prompt": "x", "backends": ["claude"], "workdir": "no such folder", "dry_run": True}, "claude: ", "workdir"),
    ],
)
async def test_what_would_be_refused_is_refused_with_its_place(
    world: World, given: dict[str, Any], place: str, field: str
) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, given)
    assert failure.message.startswith(place)
    assert failure.details["field"] == field
