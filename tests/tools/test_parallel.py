"""Several prompts at once: order, limits, and what becomes of the rest when one fails."""

import anyio
import pytest

from clinvk.request import CancelRequest, RunsRequest
from clinvk.response import ParallelResult
from clinvk.tools import runs
from fakes import agent
from fakes.calls import in_parallel, task
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


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
