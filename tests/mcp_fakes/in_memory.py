"""A client of the SDK connected in memory to a server over fake operations."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import anyio
from mcp import Client
from mcp.types import CallToolResult, TextContent

from clinvk.mcp_server import server as servers
from clinvk.mcp_server.progress import Pace
from mcp_fakes.operations import FakeOperations

Mode = Literal["auto", "legacy"]
MODES: list[Mode] = ["auto", "legacy"]  # 2026-07-28 and 2025-11-25


@asynccontextmanager
async def connected(mode: Mode = "auto", operations: FakeOperations | None = None) -> AsyncGenerator[Client]:
    """A connected client; everything within it must be done in ten seconds."""
    server = servers.build(operations or FakeOperations(), cwd=Path("/work"), wait_secs=90, pace=Pace(0, 0.01))
    with anyio.fail_after(10):
        async with Client(server, mode=mode) as client:
            yield client


def text_of(result: CallToolResult) -> str:
    """The one text of a result."""
    assert len(result.content) == 1
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def structured(result: CallToolResult) -> dict[str, Any]:
    """The structured content of a result."""
    return cast("dict[str, Any]", result.structured_content)
