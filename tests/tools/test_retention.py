"""Records of runs are removed when they are old or too heavy, but never unread or running ones."""

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from clinvk.config.settings import LimitsConfig
from clinvk.executor.finished import browsing
from clinvk.executor.runs import RunStore
from clinvk.request import CancelRequest, ChainRequest, ParallelRequest, PromptRequest, RunsRequest
from clinvk.response import ChainResult, ParallelResult, PromptResult
from clinvk.tools import chain, parallel, prompt, runs
from clinvk.tools.app import App
from clinvk.tools.prepare import fingerprint
from clinvk.tools.retention import DAY, clean_runs, task_secs
from clinvk.tools.waiting import ended
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


async def ask(app: App, world: World, text: str, **options: Any) -> str:
    request = PromptRequest.model_validate({"prompt": text, "backend": "claude", **options})
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result.run_id


def weight(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def later(app: App, run_id: str, days: float) -> float:
    return app.runs.record(run_id).created_at + days * DAY


async def test_only_old_runs_that_were_read_are_removed(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    async with world.app() as app:
        read = await ask(app, world, "one")
        unread = await ask(app, world, "two", wait_secs=0)
        with anyio.fail_after(PATIENCE_SECS):
            while app.runs.result(unread) is None:
                await app.executor.live[unread].done.wait()
        steps = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "x"})
        running = await ask(app, world, steps, wait_secs=0)
        await up.reached()
        limits = LimitsConfig(run_retention_days=3, run_retention_bytes=0)
        assert clean_runs(app, limits, now=later(app, read, 2.9)) == []
        assert clean_runs(app, limits, now=later(app, running, 3.1)) == [read]
        assert sorted(app.runs.ids()) == sorted([unread, running])
        await go.release()


async def test_what_listings_knew_of_a_removed_run_leaves_the_disk_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinvk.executor.finished.FEW", 1)
    cache = world.home / "cache" / "runs.sqlite"
    async with world.app() as app:
        run_id = await ask(app, world, "between us")
        os.utime(app.runs.path(run_id), (0, 0))  # as if nothing had happened to it for long
        store = RunStore(world.home)
        with browsing(store):
            store.state(run_id)
        assert b"between us" in cache.read_bytes()
        assert clean_runs(app, LimitsConfig(run_retention_days=1), now=later(app, run_id, 2)) == [run_id]
    assert b"between us" not in cache.read_bytes()


async def test_an_old_run_that_was_cancelled_is_removed_though_nobody_read_it(world: World) -> None:
    up = world.fifo("up")
    async with world.app() as app:
        with anyio.fail_after(PATIENCE_SECS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, app, world, agent.prompt({"reach": str(up)}, {"hang": True}))
                await up.reached()
                tasks.cancel_scope.cancel()
        [run_id] = app.runs.ids()
        state = app.runs.state(run_id)
        assert (state.status, state.unread) == ("cancelled", True)
        limits = LimitsConfig(run_retention_days=3, run_retention_bytes=0)
        assert clean_runs(app, limits, now=later(app, run_id, 2.9)) == []
        assert clean_runs(app, limits, now=later(app, run_id, 3.1)) == [run_id]


async def test_what_a_run_wrote_that_was_cancelled_after_its_id_was_handed_out_stays_until_it_is_fetched(
    world: World,
) -> None:
    up = world.fifo("up")
    async with world.app() as app:
        steps = agent.prompt({"say": "so far"}, {"reach": str(up)}, {"hang": True})
        run_id = await ask(app, world, steps, wait_secs=0)
        await up.reached()
        with anyio.fail_after(PATIENCE_SECS):
            await runs.cancel(app, CancelRequest(run_id=run_id))
        limits = LimitsConfig(run_retention_days=3, run_retention_bytes=1)
        assert clean_runs(app, limits, now=later(app, run_id, 3.1)) == []
        await runs.runs(app, RunsRequest(action="status", run_id=run_id), world.caller())
        assert clean_runs(app, limits, now=later(app, run_id, 3.1)) == [run_id]


async def test_nothing_is_removed_for_its_age_when_there_is_no_limit(world: World) -> None:
    async with world.app() as app:
        run_id = await ask(app, world, "one")
        limits = LimitsConfig(run_retention_days=0, run_retention_bytes=0)
        assert clean_runs(app, limits, now=later(app, run_id, 10_000)) == []


async def test_children_go_with_their_parent(world: World) -> None:
    async with world.app() as app:
        request = ParallelRequest.model_validate({"tasks": [{"prompt": "a"}, {"prompt": "b"}]})
        with anyio.fail_after(PATIENCE_SECS):
            result = await parallel.parallel(app, request, world.caller())
            assert isinstance(result, ParallelResult)
        family = [result.run_id, *[part.run_id for part in result.results]]
        removed = clean_runs(app, LimitsConfig(run_retention_days=1), now=later(app, result.run_id, 2))
        assert sorted(removed) == sorted(family)
        assert app.runs.ids() == []


async def test_a_task_stays_as_long_as_its_client_was_told_whatever_it_weighs(world: World) -> None:
    limits = LimitsConfig(run_retention_days=30, run_retention_bytes=1)
    secs = task_secs(limits)
    assert secs is not None
    async with world.app() as app:
        task, other = await ask(app, world, "one"), await ask(app, world, "two")
        app.runs.mark(task, "task")
        assert clean_runs(app, limits) == [other]
        assert clean_runs(app, limits, now=later(app, task, secs / DAY - 0.1)) == []
        assert clean_runs(app, limits, now=later(app, task, secs / DAY + 0.1)) == [task]


@pytest.mark.parametrize(
    ("days", "size", "promised"), [(0, 0, None), (3, 0, 3), (30, 0, 30), (0, 1, 7), (3, 1, 3), (30, 1, 7)]
)
def test_no_more_is_promised_than_is_kept(days: int, size: int, promised: int | None) -> None:
    secs = task_secs(LimitsConfig(run_retention_days=days, run_retention_bytes=size))
    assert secs == (None if promised is None else promised * DAY)


async def cut_off_chain(world: World, app: App, texts: list[str]) -> ChainRequest:
    """A chain, run `cafe`, of which the first step, run `beef`, was done when everything was cut off."""
    request = ChainRequest.model_validate({"steps": [{"prompt": text, "backend": "claude"} for text in texts]})
    asked = request.model_dump(exclude_defaults=True)
    mark = fingerprint(app, "chain", asked, world.caller())
    done = app.runs.record(await ask(app, world, texts[0]))
    about = {"id": "cafe", "kind": "chain", "fingerprint": mark, "request": asked, "created_at": done.created_at - 9}
    lock = app.runs.create(done.model_copy(update=about))
    os.close(app.runs.create(done.model_copy(update={"id": "beef", "parent_id": "cafe", "position": 1})))
    answer = {**(app.runs.result(done.id) or {}), "run_id": "beef"}
    app.runs.finish("beef", PromptResult.model_validate(answer), sync=False)
    app.runs.add_child("cafe", "beef")
    os.close(lock)
    app.requests.note(mark, "cafe")
    return request


async def test_a_step_that_another_chain_took_over_stays_with_it(world: World) -> None:
    async with world.app() as app:
        request = await cut_off_chain(world, app, ["one", "two after {{previous}}"])
        with anyio.fail_after(PATIENCE_SECS):
            result = await chain.chain(app, request, world.caller())
        assert isinstance(result, ChainResult)
        assert [step.output for step in result.results] == ["echo: one", "echo: two after echo: one"]
        assert result.results[0].run_id == "beef"
        limits = LimitsConfig(run_retention_days=0, run_retention_bytes=weight(app.runs.folder) - 1)
        assert clean_runs(app, limits) == ["cafe"]
        shown = await runs.runs(app, RunsRequest(action="status", run_id=result.run_id), world.caller())
        assert [child.run_id for child in shown.children or ()] == [step.run_id for step in result.results]
        clean_runs(app, LimitsConfig(run_retention_days=1), now=later(app, result.run_id, 2))
        assert app.runs.ids() == []


async def test_what_crashes_left_behind_is_removed(world: World) -> None:
    async with world.app() as app:
        run_id = await ask(app, world, "one")
        unlisted = app.runs.record(run_id).model_copy(update={"id": "beef", "parent_id": "cafe", "position": 1})
        os.close(app.runs.create(unlisted))
        for name in (".half", ".begun"):
            (app.runs.folder / name).mkdir()
        os.utime(app.runs.folder / ".half", (0, 0))
        gone = await ask(app, world, "two")
        app.requests.note("mark", gone)
        app.runs.delete(gone)
        app.requests.note("other", run_id)
        limits = LimitsConfig(run_retention_days=1)
        assert clean_runs(app, limits, now=later(app, run_id, 0.5)) == []
        assert [(app.runs.folder / name).exists() for name in (".half", ".begun")] == [False, True]
        assert (app.requests.find("mark"), app.requests.find("other")) == (None, run_id)
        assert sorted(clean_runs(app, limits, now=later(app, run_id, 2))) == sorted(["beef", run_id])


async def test_a_request_whose_run_was_removed_by_another_process_is_run_anew(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", wait_secs=0)
        with anyio.fail_after(PATIENCE_SECS):
            await ended(app, first)
        assert app.runs.state(first).unread
        RunStore(app.home).delete(first)
        assert await ask(app, world, "one") != first


async def test_the_oldest_go_first_when_records_weigh_too_much(world: World) -> None:
    async with world.app() as app:
        old, young = await ask(app, world, "one"), await ask(app, world, "two")
        size = weight(app.runs.folder)
        assert clean_runs(app, LimitsConfig(run_retention_bytes=size)) == []
        assert clean_runs(app, LimitsConfig(run_retention_bytes=size - 1)) == [old]
        assert app.runs.ids() == [young]
