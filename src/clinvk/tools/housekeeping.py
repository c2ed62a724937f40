"""What a long-lived process does beside its runs: complete the search index, apply retention now and then."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread

from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.tools.app import App, opened
from clinvk.tools.retention import clean

FIRST_SECS = 60.0  # not while the first calls come in
EVERY_SECS = 6 * 3600.0


@asynccontextmanager
async def served(loaded: Loaded, environ: Mapping[str, str]) -> AsyncGenerator[App]:
    """clinvk as a server has it: open, and kept clean."""
    async with opened(loaded, environ) as app, anyio.create_task_group() as tasks:
        tasks.start_soon(keep_clean, app)
        try:
            yield app
        finally:
            tasks.cancel_scope.cancel()


async def keep_clean(app: App) -> None:
    """Keep house until cancelled; what cannot be removed now is tried again later."""
    await anyio.sleep(FIRST_SECS)
    with suppress(ClinvkError):
        await anyio.to_thread.run_sync(app.sessions.complete_index, abandon_on_cancel=True)
    while True:
        with suppress(ClinvkError):
            await anyio.to_thread.run_sync(clean, app)
        await anyio.sleep(EVERY_SECS)
