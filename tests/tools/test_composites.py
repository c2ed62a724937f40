"""Parallel, chain and compare: what runs, in which order, and what becomes of the rest."""

import re
from typing import Any

import anyio
import pytest

from clinvk.errors import ClinvkError, Failure
from clinvk.request import CancelRequest, ChainRequest, CompareRequest, ParallelRequest, RunsRequest
from clinvk.response import ChainResult, CompareResult, ParallelResult
from clinvk.tools import chain, compare, parallel, runs
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


def task(*steps: agent.Step, backend: str = "claude", **more: Any) -> dict[str, Any]:
    return {"prompt": agent.prompt(*steps), "backend": backend, **more}


async def in_parallel(app: App, world: World, *tasks: dict[str, Any], **more: Any) -> ParallelResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = ParallelRequest.model_validate({"tasks": tasks, **more})
        return await parallel.parallel(app, request, world.caller())


async def chained(app: App, world: World, *steps: dict[str, Any], **more: Any) -> ChainResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = ChainRequest.model_validate({"steps": steps, **more})
        return await chain.chain(app, request, world.caller())


async def compared(app: App, world: World, **more: Any) -> CompareResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = CompareRequest.model_validate({"prompt": "which?", **more})
        return await compare.compare(app, request, world.caller())


async def refused_chain(app: App, world: World, *steps: dict[str, Any]) -> Failure:
    with pytest.raises(ClinvkError) as refused:
        await chained(app, world, *steps)
    assert app.runs.ids() == []
    assert world.calls() == []
    return refused.value.failure


# Parallel


async def test_results_come_in_task_order_whatever_ends_first(world: World) -> None:
    go = world.fifo("go")
    last = world.fifo("last")
    results: list[ParallelResult] = []
    async with world.app() as app, anyio.create_task_group() as tasks:

        async def call() -> None:
            results.append(
                await in_parallel(
                    app,
                    world,
                    task({"wait": str(go)}, {"answer": "first"}, id="a", name="one"),
                    task({"answer": "second"}, {"reach": str(last)}, backend="codex", id="b"),
                )
            )

        tasks.start_soon(call)
        await last.reached()
        await go.release()
    [result] = results
    assert (result.status, result.total_tasks, result.completed, result.failed) == ("completed", 2, 2, 0)
    assert [(one.task, one.id, one.name, one.output) for one in result.results] == [
        (1, "a", "one", "first"),
        (2, "b", None, "second"),
    ]


async def test_no_more_than_max_parallel_run_at_once_and_all_of_them_do(world: World) -> None:
    ups = [world.fifo(f"up{n}") for n in range(4)]
    gos = [world.fifo(f"go{n}") for n in range(4)]
    async with world.app() as app, anyio.create_task_group() as tasks:
        steps = [task({"reach": str(up)}, {"wait": str(go)}) for up, go in zip(ups, gos, strict=True)]
        tasks.start_soon(lambda: in_parallel(app, world, *steps, max_parallel=2))
        # both run at once: neither is let go before the other is up
        await ups[0].reached()
        await ups[1].reached()
        assert app.executor.admission.running == 2
        assert len(world.calls()) == 2
        await gos[1].release()
        await ups[2].reached()
        assert len(world.calls()) == 3
        await gos[0].release()
        await ups[3].reached()
        await gos[2].release()
        await gos[3].release()


async def test_more_tasks_than_may_run_wait_in_the_queue(world: World) -> None:
    tasks = [{"prompt": f"p{n}", "backend": "offline"} for n in range(12)]
    async with world.app(limits__max_concurrent=2, limits__queue_length=12) as app:
        result = await in_parallel(app, world, *tasks, max_parallel=12)
    assert (result.status, result.completed) == ("completed", 12)
    assert [one.output.split()[-1] for one in result.results] == [f"p{n}" for n in range(12)]


async def test_more_tasks_than_the_queue_holds_are_refused_alone(world: World) -> None:
    go = world.fifo("go")
    results: list[ParallelResult] = []
    ups = world.fifo("up")
    async with world.app(limits__max_concurrent=1, limits__queue_length=1) as app, anyio.create_task_group() as tasks:
        holding = task({"reach": str(ups)}, {"wait": str(go)}, {"answer": "held"})

        async def call() -> None:
            results.append(await in_parallel(app, world, holding, *[{"prompt": "x", "backend": "claude"}] * 3))

        tasks.start_soon(call)
        await ups.reached()
        await go.release()
    [result] = results
    codes = [one.error.code if one.error else None for one in result.results]
    assert sorted(code or "" for code in codes) == ["", "", "overloaded", "overloaded"]
    assert (result.status, result.completed, result.failed) == ("failed", 2, 2)


async def test_a_refused_task_does_not_stop_the_others(world: World) -> None:
    async with world.app() as app:
        result = await in_parallel(
            app,
            world,
            {"prompt": "x", "backend": "nope"},
            {"prompt": "y", "backend": "claude"},
            {"prompt": "z", "backend": "gemini", "max_turns": 3},
        )
    assert [(one.status, one.error and one.error.code) for one in result.results] == [
        ("failed", "backend_unknown"),
        ("completed", None),
        ("failed", "unsupported_option"),
    ]


async def test_fail_fast_stops_what_runs_and_what_waits(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    results: list[ParallelResult] = []
    async with world.app() as app, anyio.create_task_group() as tasks:

        async def call() -> None:
            results.append(
                await in_parallel(
                    app,
                    world,
                    task({"spawn": [*agent.KINDS]}, {"say": "busy"}, {"reach": str(up)}, {"hang": True}),
                    task({"wait": str(go)}, {"fail": "it broke"}),
                    {"prompt": "never", "backend": "claude"},
                    fail_fast=True,
                    max_parallel=2,
                )
            )

        tasks.start_soon(call)
        world.processes.watch_agent(await up.reached())
        await go.release()
    await world.processes.ended()
    [result] = results
    assert [one.status for one in result.results] == ["cancelled", "failed", "cancelled"]
    assert (result.status, result.failed, result.cancelled) == ("failed", 1, 2)
    assert (result.results[0].output, result.results[0].partial) == ("busy", True)
    assert len(world.calls()) == 2


async def test_without_fail_fast_everything_is_run(world: World) -> None:
    async with world.app(parallel__fail_fast=True) as app:
        result = await in_parallel(
            app, world, task({"fail": "it broke"}), {"prompt": "y", "backend": "claude"},
            fail_fast=False, max_parallel=1,
        )  # fmt: skip
    assert [one.status for one in result.results] == ["failed", "completed"]


async def test_cancelling_a_parallel_run_ends_its_children(world: World) -> None:
    ups = [world.fifo("a"), world.fifo("b")]
    tasks = [task({"spawn": ["daemon"]}, {"reach": str(up)}, {"hang": True}) for up in ups]
    async with world.app() as app:
        running = await in_parallel(app, world, *tasks, wait_secs=0)
        assert running.status == "running"
        for up in ups:
            world.processes.watch_agent(await up.reached())
        with anyio.fail_after(PATIENCE_SECS):
            cancelled = await runs.cancel(app, CancelRequest(run_id=running.run_id))
        found = await runs.runs(app, RunsRequest(action="status", run_id=running.run_id), world.caller())
        await world.processes.ended()
    assert cancelled.status == "cancelled"
    assert isinstance(found.result, ParallelResult)
    assert [one.status for one in found.result.results] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("field", ["tasks", "steps"])
async def test_a_dry_run_inside_is_refused(world: World, field: str) -> None:
    one = {"prompt": "x", "backend": "claude", "dry_run": True}
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await (in_parallel(app, world, one) if field == "tasks" else chained(app, world, one))
    assert refused.value.failure.details["field"] == f"{field}[0].dry_run"


# Chain


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


# Compare


async def test_answers_stand_side_by_side_and_failures_rank_nowhere(world: World) -> None:
    agent.decide(world.bin, "gemini", {"fail": "it broke"})
    async with world.app() as app:
        result = await compared(app, world, backends=["gemini", "claude", "codex"], models={"claude": "opus"})
    assert result.backends == ["gemini", "claude", "codex"]
    assert [(one.backend, one.status) for one in result.results] == [
        ("gemini", "failed"),
        ("claude", "completed"),
        ("codex", "completed"),
    ]
    assert result.status == "completed"
    assert sorted(one.backend for one in result.ranking) == ["claude", "codex"]
    assert [one.place for one in result.ranking] == [1, 2]
    assert "--model=opus" in world.calls("claude")[0]["argv"]


async def test_all_that_are_installed_are_compared_when_none_is_named(world: World) -> None:
    async with world.app() as app:
        result = await compared(app, world)
    assert result.backends == ["claude", "codex", "gemini"]


async def test_sequential_compares_run_one_at_a_time(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    agent.decide(world.bin, "claude", {"reach": str(up)}, {"wait": str(go)})
    async with world.app() as app, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: compared(app, world, backends=["claude", "codex"], sequential=True))
        await up.reached()
        assert app.executor.admission.running == 1
        assert app.executor.admission.waiting == 0
        assert world.calls("codex") == []
        await go.release()
    assert len(world.calls("codex")) == 1


async def test_a_judge_sees_anonymous_answers_and_its_letters_become_names(world: World) -> None:
    for name in ("claude", "codex"):
        agent.decide(world.bin, name, {"answer": f"the answer by {name.upper()[::-1]}"})
    reply = 'Sure!\n{"winner": "b", "scores": {"A": 3, "B": 8.5, "Z": 10, "x": "y"}, "reasons": "B is right"} ok'
    agent.decide(world.bin, "gemini", {"answer": reply})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    [judged] = world.calls("gemini")
    assert not [name for name in ("claude", "codex") if name in judged["prompt"].lower().split("<request>")[1]]
    shown = re.findall(r"<answer id=.(.).>\nthe answer by (\w+)\n</answer>", judged["prompt"])
    letters = {letter: said[::-1].lower() for letter, said in shown}
    assert sorted(letters.values()) == ["claude", "codex"]
    verdict = result.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.error) == (letters["B"], None)
    assert verdict.scores == {letters["A"]: 3, letters["B"]: 8.5}
    assert [(one.backend, one.score) for one in result.ranking] == [(letters["B"], 8.5), (letters["A"], 3)]


@pytest.mark.parametrize(
    "reply",
    [
        "I like them all",
        "{",
        "[]",
        '{"winner": 7, "scores": "none"}',
        "}{",
        '{"scores": {"A": NaN}}',
        '{"scores": {"A": 1e999, "B": true}}',
    ],
)
async def test_a_judge_that_talks_nonsense_spoils_nothing(world: World, reply: str) -> None:
    agent.decide(world.bin, "gemini", {"answer": reply})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert result.status == "completed"
    assert result.verdict is not None
    assert result.verdict.winner is None
    assert len(result.ranking) == 2
    CompareResult.model_validate_json(result.model_dump_json())


async def test_a_judge_that_fails_spoils_nothing(world: World) -> None:
    agent.decide(world.bin, "gemini", {"exit": 3})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert (result.status, result.verdict and result.verdict.error is not None) == ("completed", True)


async def test_one_answer_alone_is_not_judged(world: World) -> None:
    agent.decide(world.bin, "codex", {"fail": "it broke"})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert world.calls("gemini") == []
    assert result.verdict is not None
    assert result.verdict.error is not None


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"backends": []}, "backends"),
        ({"backends": ["claude", "nope"]}, "nope"),
        ({"backends": ["claude", "claude"]}, "claude"),
        ({"backends": ["claude"], "models": {"codex": "x"}}, "codex"),
        ({"backends": ["claude"], "judge": "nope"}, "nope"),
    ],
)
async def test_a_comparison_that_makes_no_sense_is_refused(world: World, asked: dict[str, Any], names: str) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await compared(app, world, **asked)
        assert app.runs.ids() == []
    assert names in refused.value.failure.message
