"""A gateway on a real socket: in this process, where a test may look inside, or as a process, where signals matter."""

import json
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import uvicorn
from anyio.abc import Process, TaskStatus

from clinvk.gateway.app import build
from clinvk.gateway.drain import Drain
from clinvk.mcp_server.mounted import mounted
from clinvk.tools.app import App, opened
from clinvk.web import listener
from clinvk.web.keys import Keyring
from fakes.world import World

DEADLINE = 60  # of a whole test; far more than anything takes, also on a busy machine
SOURCE = Path(__file__).parents[2] / "src"
LAUNCH = (sys.executable, str(Path(__file__).with_name("launch.py")))

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves, and a client of it."""

    url: str
    client: httpx2.AsyncClient
    app: App
    drain: Drain

    async def post(self, path: str, body: object, **headers: str) -> httpx2.Response:
        """POST JSON."""
        return await self.client.post(path, json=body, headers=headers)


@asynccontextmanager
async def gateway(
    world: World, *, environ: Mapping[str, str] | None = None, mcp: bool = False, **flags: object
) -> AsyncGenerator[Gateway]:
    """A gateway in this process; `server__cors_max_age=5` sets server.cors_max_age, `environ` adds variables."""
    world = World(world.root, world.home, world.bin, world.workdir, {**world.environ, **(environ or {})})
    loaded = world.loaded(**{"server__port": 0, **flags})
    keyring = Keyring(loaded.home, world.environ)
    with anyio.fail_after(DEADLINE), listener.bound(loaded, "server") as listening:
        async with opened(loaded, world.environ) as app, _mounted(app, wanted=mcp) as beside:
            drain = Drain(app)
            built = build(app, keyring, cwd=world.workdir, drain=drain, mounted=beside)
            server = uvicorn.Server(listener.configured(built, "httptools", built.refused))
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            url = listener.url_of(loaded.config.server.host, listening, "")
            async with anyio.create_task_group() as tasks:
                await server.startup(sockets=[listening])
                tasks.start_soon(server.main_loop)
                async with httpx2.AsyncClient(base_url=url, timeout=DEADLINE) as client:
                    yield Gateway(url, client, app, drain)
                drain.close()
                server.should_exit = True
                await server.shutdown(sockets=[listening])


@asynccontextmanager
async def _mounted(app: App, *, wanted: bool) -> AsyncGenerator[Any]:
    if not wanted:
        yield None
        return
    async with mounted(app) as beside:
        yield beside


@dataclass(slots=True)
class Served:
    """A gateway process. Its log is read as it comes: a full pipe would stop it."""

    process: Process
    url: str = ""
    log: bytes = b""

    async def follow(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read the log to its end; started once it says where the server listens, or why it does not."""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.log += chunk
            line, newline, _ = self.log.partition(b"\n")
            if newline and not self.url:
                self.url = line.decode().rpartition(" ")[2]
                task_status.started()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


@asynccontextmanager
async def served(world: World, *flags: str, **environ: str) -> AsyncGenerator[Served]:
    """A gateway as `clinvk serve` starts it; killed at the end if it still runs."""
    env = {**world.environ, "PYTHONPATH": str(SOURCE), **environ}
    command = (*LAUNCH, "limits.kill_grace_secs=0.1", *flags)
    async with (
        await anyio.open_process(command, env=env, cwd=world.workdir) as process,
        anyio.create_task_group() as group,
    ):
        server = Served(process)
        try:
            await group.start(server.follow)
            assert b"listening on " in server.log, server.log
            yield server
        finally:
            if process.returncode is None:
                process.kill()


async def events(response: httpx2.Response) -> AsyncIterator[Json]:
    """The server-sent events of a stream: `event`, `id` and the data."""
    fields: Json = {}
    async for line in response.aiter_lines():
        if line == "":
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = json.loads(value) if name == "data" else value


async def lines(response: httpx2.Response) -> list[Json]:
    """The lines of an NDJSON stream."""
    return [json.loads(line) async for line in response.aiter_lines() if line]


def system_prompt(world: World) -> str:
    """The system prompt that the first call of claude was given."""
    for word in world.calls()[0]["argv"]:
        if word.startswith("--append-system-prompt-file="):
            return Path(word.partition("=")[2]).read_text(encoding="utf-8")
    raise AssertionError("there was none")


def pictures(world: World) -> list[bytes]:
    """The pictures that the first call of codex was given."""
    argv = world.calls("codex")[0]["argv"]
    return [Path(word.partition("=")[2]).read_bytes() for word in argv if word.startswith("--image=")]
