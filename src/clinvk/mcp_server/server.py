"""The MCP server object: the tools of the catalog over some operations; both protocol eras, any transport."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp.server import CacheHint, MCPServer
from mcp.server.extension import Extension
from mcp.server.lowlevel import Server

from clinvk import __version__
from clinvk.mcp_server import completion, mistakes, prompts, resources, tool
from clinvk.mcp_server.approvals import Resuming
from clinvk.mcp_server.catalog import CATALOG
from clinvk.mcp_server.operations import Operations
from clinvk.mcp_server.progress import Pace
from clinvk.mcp_server.wording import INSTRUCTIONS
from clinvk.tools.caller import Caller

_LISTS_LAST_MS = 3_600_000  # the lists of tools and prompts do not change while the server runs


def build(
    operations: Operations,
    *,
    cwd: Path,
    wait_secs: float,
    pace: Pace | None = None,
    resuming: Resuming | None = None,
    extensions: Sequence[Extension] = (),
) -> MCPServer[Any]:
    """A server that is not listening yet. `cwd` is where calls without a workdir work."""
    serving = tool.Serving(operations, cwd, pace or Pace(), resuming)
    server: MCPServer[Any] = MCPServer(
        "clinvk",
        title="clinvk",
        version=__version__,
        instructions=INSTRUCTIONS.replace("{cwd}", str(cwd)).replace("{wait}", f"{wait_secs:g}"),
        tools=[tool.build(entry, serving) for entry in CATALOG],
        log_level="WARNING",
        cache_hints={
            "tools/list": CacheHint(ttl_ms=_LISTS_LAST_MS, scope="public"),
            "prompts/list": CacheHint(ttl_ms=_LISTS_LAST_MS, scope="public"),
        },
        middleware=[mistakes.explained],
        extensions=extensions,
    )
    caller = Caller(client="mcp", cwd=cwd)
    resources.add(server, operations, caller)
    prompts.add(server)
    completion.add(server, operations, caller)
    return server


def lowlevel(server: MCPServer[Any]) -> Server[Any]:
    """The SDK's inner server; there is no public way to drive its protocol loop."""
    return server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
