"""`clinvk mcp`: the MCP server as a process.

Nothing heavy is imported before `main` is called: the SDK alone costs half a second.
"""

import gc
import logging
import os
import sys
from collections.abc import Mapping

import anyio

from clinvk.config.cascade import Loaded
from clinvk.mcp_server import signals


def main(loaded: Loaded, environ: Mapping[str, str]) -> int:
    """Serve as the section `mcp` of the configuration says, until the client leaves or a signal comes.

    Ends the process itself when all went well. Raises ClinvkError if the server cannot start as asked.
    """
    signals.exit_quietly_while_starting()
    logging.basicConfig(level=logging.WARNING, format="clinvk: %(levelname)s: %(message)s", stream=sys.stderr)
    gc.disable()  # building the SDK's models allocates much and frees nothing: collecting there costs 12 % of the start
    if loaded.config.mcp.transport == "http":
        from clinvk.mcp_server.http import run as serve
    else:
        from clinvk.mcp_server.application import serve_stdio as serve
    gc.enable()
    gc.freeze()
    anyio.run(serve, loaded, environ)
    sys.stderr.flush()
    logging.shutdown()
    os._exit(0)  # the interpreter's own teardown would take longer than most calls
