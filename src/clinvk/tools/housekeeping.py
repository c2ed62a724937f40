"""What a long-lived process does beside its runs: complete the search index, apply retention now and then."""

from contextlib import suppress

import anyio
import anyio.to_thread

from clinvk.errors import ClinvkError
from clinvk.tools.app import App
from clinvk.tools.retention import clean

FIRST_SECS = 60.0  # not while the first calls come in
EVERY_SECS = 6 * 3600.0


async def keep_clean(app: App) -> None:
    """Keep house until cancelled; what cannot be removed now is tried again later."""
    await anyio.sleep(FIRST_SECS)
    with suppress(ClinvkError):
        await anyio.to_thread.run_sync(app.sessions.complete_index, abandon_on_cancel=True)
    while True:
        with suppress(ClinvkError):
            await anyio.to_thread.run_sync(clean, app)
        await anyio.sleep(EVERY_SECS)
