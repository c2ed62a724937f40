"""A server keeps its house while it serves."""

import anyio
import anyio.from_thread
import pytest

from clinvk.request import PromptRequest
from clinvk.tools import housekeeping, prompt, retention
from clinvk.tools.app import App
from clinvk.tools.housekeeping import served
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


async def test_old_runs_are_removed_while_a_server_serves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "FIRST_SECS", 0)
    cleaned = anyio.Event()

    def then_tell(app: App) -> object:
        removed = retention.clean(app)
        anyio.from_thread.run_sync(cleaned.set)
        return removed

    monkeypatch.setattr(housekeeping, "clean", then_tell)
    async with world.app() as app:
        await prompt.prompt(app, PromptRequest(prompt="hi", backend="claude"), world.caller())
        (run_id,) = app.runs.ids()
        record = app.runs.record(run_id)
        old = record.model_copy(update={"created_at": record.created_at - 2 * retention.DAY})
        (app.runs.path(run_id) / "request.json").write_text(old.model_dump_json(), encoding="utf-8")
    async with served(world.loaded(limits__run_retention_days=1), world.environ) as app:
        with anyio.fail_after(PATIENCE_SECS):
            await cleaned.wait()
        assert app.runs.ids() == []
