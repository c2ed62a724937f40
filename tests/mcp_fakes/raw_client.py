"""A client that speaks raw lines over stdio, because the SDK's client hides what must be asserted."""

import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src"
FAKE_SERVER = (sys.executable, str(Path(__file__).with_name("operations.py")))
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
MOST_BYTES = 64 << 20

Message = dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    """The little that a server started by a client gets."""
    names = ("HOME", "CLINVK_HOME", "PATH")
    return {name: os.environ[name] for name in names} | {"PYTHONPATH": str(SOURCE)} | more


class RawClient:
    """One server process and the messages to and from it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self.other: list[Message] = []

    async def send_line(self, line: bytes) -> None:
        await self._stdin.send(line + b"\n")

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.send_line(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def receive(self) -> Message:
        return cast("Message", json.loads(await self._stdout.receive_until(b"\n", MOST_BYTES)))

    async def answer(self, request_id: object) -> Message:
        """The answer to a request; what else arrives is kept in `other`."""
        while True:
            message = await self.receive()
            if message.get("id") == request_id and "method" not in message:
                return message
            self.other.append(message)

    async def request(self, request_id: object, method: str, params: Mapping[str, Any] | None = None) -> Message:
        await self.send({"id": request_id, "method": method, "params": params or {}})
        return await self.answer(request_id)

    async def initialize(self, version: str = "2025-11-25") -> Message:
        answer = await self.request("init", "initialize", handshake(version))
        await self.send({"method": "notifications/initialized"})
        return answer

    async def call(self, request_id: object, tool: str, arguments: Mapping[str, Any], **params: Any) -> None:
        await self.send(
            {"id": request_id, "method": "tools/call", "params": {"name": tool, "arguments": arguments, **params}}
        )

    async def close_stdin(self) -> None:
        await self._stdin.aclose()


def handshake(version: str = "2025-11-25") -> Message:
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}


@asynccontextmanager
async def started(
    command: Sequence[str] = FAKE_SERVER, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncGenerator[RawClient]:
    """A server process; killed at the end if it still runs."""
    async with await anyio.open_process(command, env=environment() if env is None else env, cwd=cwd) as process:
        try:
            yield RawClient(process)
        finally:
            if process.returncode is None:
                process.kill()


async def exists(path: Path) -> None:
    """Wait for a file that another process makes."""
    while not await anyio.Path(path).exists():  # noqa: ASYNC110 - another process makes it
        await anyio.sleep(0.005)
