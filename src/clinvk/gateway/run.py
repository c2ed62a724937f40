"""`clinvk serve`: the gateway as a process.

Nothing heavy is imported before `main` is called.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio

from clinvk.config.cascade import Loaded

if TYPE_CHECKING:
    from clinvk.web.mounting import Mounting


def main(
    loaded: Loaded,
    environ: Mapping[str, str],
    host: str | None = None,
    port: int | None = None,
    *,
    mounting: "Mounting | None" = None,
) -> int:
    """Serve as the section `server` of the configuration says, until a signal comes.

    `host` and `port` win over the configuration; `mounting` opens what is served beside the API (`/mcp`). Ends the
    process itself, with 0, when all went well. Raises ClinvkError if the server cannot start as asked.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: os._exit(0))  # nothing runs yet
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if given:
        server = loaded.config.server.model_copy(update=given)
        config = loaded.config.model_copy(update={"server": server})
        loaded = Loaded(config, loaded.sources, loaded.home, loaded.path, loaded.warnings)
    gc.disable()  # imports allocate much and free nothing
    from clinvk.gateway import logs, tracing
    from clinvk.gateway.serving import serve

    gc.enable()
    gc.freeze()
    logs.configure(sys.stderr)
    anyio.run(serve, loaded, environ, mounting)
    tracing.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(0)  # the interpreter's own teardown would take longer than most calls
