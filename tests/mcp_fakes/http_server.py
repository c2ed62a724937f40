"""A server process on HTTP, and raw requests to it."""

import json
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mcp_fakes.raw_client import MODERN_META, Message, environment, handshake

FAKE_SERVER = (sys.executable, str(Path(__file__).with_name("operations.py")), "mcp.transport=http", "mcp.port=0")
REAL_SERVER = (sys.executable, str(Path(__file__).with_name("launch.py")), "mcp.transport=http", "mcp.port=0")
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28"}


class HttpServer:
    """One server process and where it listens."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self.base = url.rpartition("/")[0]


@asynccontextmanager
async def serving(
    command: Sequence[str] = FAKE_SERVER, *, env: Mapping[str, str] | None = None
) -> AsyncGenerator[HttpServer]:
    """A server that listens; killed at the end if it still runs."""
    async with await anyio.open_process(command, env=environment() if env is None else env) as process:
        try:
            assert process.stderr is not None
            errors = BufferedByteReceiveStream(process.stderr)
            line = (await errors.receive_until(b"\n", 4096)).decode()
            assert "listening on " in line, line
            yield HttpServer(process, line.rpartition(" ")[2])
        finally:
            if process.returncode is None:
                process.kill()


def call(request_id: int, arguments: Mapping[str, Any], *, modern: bool) -> Message:
    """The message of a call of the tool `prompt`."""
    params: Message = {"name": "prompt", "arguments": dict(arguments)}
    if modern:
        params["_meta"] = MODERN_META
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def headers(*, modern: bool) -> dict[str, str]:
    """The headers of a call of the tool `prompt`."""
    return {**MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "prompt"} if modern else dict(ACCEPT)


async def opened(client: httpx2.AsyncClient, url: str, *, modern: bool) -> dict[str, str]:
    """Open a session where the era has one; the headers of calls."""
    if modern:
        return headers(modern=True)
    question = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": handshake()}
    answer = await client.post(url, json=question, headers=ACCEPT)
    assert answer.status_code == 200, answer.text
    mine = {**ACCEPT, "Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
    await client.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=mine)
    return mine


def messages(response: httpx2.Response) -> list[Message]:
    """The JSON-RPC messages of a response, be it JSON or SSE."""
    if response.headers["content-type"].startswith("application/json"):
        return [cast("Message", response.json())]
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    return [cast("Message", json.loads(line)) for line in lines]
