"""A server process that a test starts, talks to and kills."""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from fakes import serve
from fakes.world import GRACE_SECS, PATIENCE_SECS, World


class Server:
    """One `fakes/serve.py`."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.keeper = 0
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def ask(self, do: str, **request: object) -> None:
        """Begin an operation."""
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps({"do": do, **request}).encode() + b"\n")

    async def told(self) -> dict[str, Any]:
        """The next line."""
        with anyio.fail_after(PATIENCE_SECS):
            line = await self._lines.receive_until(b"\n", 1 << 24)
        told: dict[str, Any] = json.loads(line)
        return told

    async def running(self, do: str, **request: object) -> dict[str, Any]:
        """Begin an operation and have its run handed out."""
        await self.ask(do, wait_secs=0, **request)
        told = await self.told()
        result: dict[str, Any] = told["result"]
        assert result["status"] == "running", told
        return result

    async def kill(self) -> None:
        """SIGKILL, as MCP clients do."""
        self.process.send_signal(signal.SIGKILL)
        with anyio.fail_after(PATIENCE_SECS):
            await self.process.wait()

    async def leave(self) -> None:
        """Close stdin and wait for the end."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        with anyio.fail_after(PATIENCE_SECS):
            await self.process.wait()


@asynccontextmanager
async def serving(world: World, **flags: object) -> AsyncGenerator[Server]:
    """A server in a process of its own, killed at the end at the latest."""
    words = {"limits.kill_grace_secs": GRACE_SECS, **{name.replace("__", "."): value for name, value in flags.items()}}
    argv = [sys.executable, serve.__file__, *(f"{name}={json.dumps(value)}" for name, value in words.items())]
    source = str(Path(__file__).parents[1])
    environ = {**world.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    async with await anyio.open_process(argv, env=environ, cwd=world.workdir, stderr=None) as process:
        server = Server(process)
        try:
            server.keeper = (await server.told())["keeper"]
            world.processes.watch("keeper", server.keeper)
            yield server
        finally:
            if process.returncode is None:
                process.kill()


def watch_all(world: World) -> None:
    """Watch every process that has to do with this world, whoever started it: heirs and their keepers, too."""
    mark = str(world.root).encode()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/cmdline", "rb") as cmdline:  # noqa: PTH123
                if mark in environ.read() or mark in cmdline.read():
                    world.processes.watch("other", int(name))
        except OSError:
            continue
