"""`clinvk mcp`: the MCP server as a process.

Nothing heavy is imported before `main` is called: the SDK alone costs half a second.
"""

import gc
import logging
import os
import sys
from collections.abc import Mapping
from typing import Literal

import anyio

from clinvk.config.cascade import Loaded
from clinvk.mcp_server import signals


def main(  # noqa: PLR0913  the command's flags
    loaded: Loaded,
    environ: Mapping[str, str],
    *,
    transport: Literal["stdio", "http"] | None = None,
    host: str | None = None,
    port: int | None = None,
    path: str | None = None,
    expose_health: bool | None = None,
) -> int:
    """Serve until the client leaves or a signal comes; what is None is as configured. Returns the exit code.

    Raises:
        ClinvkError: if the server cannot start as asked.
    """
    signals.exit_quietly_while_starting()
    logging.basicConfig(level=logging.WARNING, format="clinvk: %(levelname)s: %(message)s", stream=sys.stderr)
    gc.disable()  # building the SDK's models allocates much and frees nothing: collecting there costs 12 % of the start
    from clinvk.mcp_server import application

    gc.enable()
    gc.freeze()
    settings = loaded.config.mcp
    if (transport or settings.transport) == "stdio":
        anyio.run(application.serve_stdio, loaded, environ)
    return 0


def leave(code: int) -> None:
    """End the process without the interpreter's own teardown, which takes longer than serving a call."""
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(code)
