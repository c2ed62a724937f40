"""Records of runs are removed when they are old or too heavy, but never unread or running ones."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from clinvk.config.settings import LimitsConfig
from clinvk.request import ParallelRequest, PromptRequest
from clinvk.response import PromptResult
from clinvk.tools import parallel, prompt
from clinvk.tools.app import App
from clinvk.tools.retention import DAY, clean_runs
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
        family = [result.run_id, *[part.run_id for part in result.results]]
        removed = clean_runs(app, LimitsConfig(run_retention_days=1), now=later(app, result.run_id, 2))
        assert sorted(removed) == sorted(family)
        assert app.runs.ids() == []


async def test_the_oldest_go_first_when_records_weigh_too_much(world: World) -> None:
    async with world.app() as app:
        old, young = await ask(app, world, "one"), await ask(app, world, "two")
        size = weight(app.runs.folder)
        assert clean_runs(app, LimitsConfig(run_retention_bytes=size)) == []
        assert clean_runs(app, LimitsConfig(run_retention_bytes=size - 1)) == [old]
        assert app.runs.ids() == [young]
