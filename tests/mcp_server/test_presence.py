"""When the client of an MCP session counts as gone: never while it has a connection, nor before it could come back."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from mcp import MCPError
from starlette.types import Message, Receive, Scope, Send

from clinvk.mcp_server import calls
from clinvk.mcp_server.calls import Calls, Presence

pytestmark = pytest.mark.anyio

DEADLINE = 20
SCOPE: Scope = {"type": "http", "method": "POST", "headers": [(b"mcp-session-id", b"one")]}


class Connections:
    """An application whose connections stay open until they are cut."""

    def __init__(self) -> None:
        self.open: list[anyio.Event] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        cut = anyio.Event()
        self.open.append(cut)
        await cut.wait()


class World:
    """A client with one call that goes on, and with as many connections as it likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, absent_secs: float) -> None:
        monkeypatch.setattr(calls, "ABSENT_SECS", absent_secs)
        monkeypatch.setattr(calls, "LOOK_SECS", 0.001)
        self.calls = Calls()
        self.connections = Connections()
        self.presence = Presence(self.connections, self.calls)
        self.ended = anyio.Event()
        self.answer = anyio.Event()
        self.answered = False
        self.told = ""
        self.noticed = anyio.Event()  # that a connection was lost, and what that meant was seen to
        self.tasks: TaskGroup | None = None

    async def call(self) -> None:
        context: Any = SimpleNamespace(method="tools/call", request=SimpleNamespace(scope=SCOPE))
        try:
            await self.calls(context, self._work)
        except MCPError as error:
            self.told = error.message
        self.ended.set()

    async def _work(self, _context: object) -> Any:
        await self.answer.wait()
        self.answered = True
        return None

    async def connect(self) -> None:
        async def receive() -> Message:
            raise AssertionError("not asked")

        async def send(message: Message) -> None:
            raise AssertionError(message)

        await self.presence(SCOPE, receive, send)
        self.noticed.set()

    async def come(self) -> None:
        """One more connection."""
        assert self.tasks is not None
        self.tasks.start_soon(self.connect)
        await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def calling(monkeypatch: pytest.MonkeyPatch, absent_secs: float, connections: int = 1) -> AsyncGenerator[World]:
    """A call that goes on while its client has so many connections."""
    world = World(monkeypatch, absent_secs)
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            world.tasks = tasks
            tasks.start_soon(world.call)
            for _ in range(connections):
                await world.come()
            yield world


async def test_a_call_ends_with_the_last_connection_of_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(monkeypatch, absent_secs=0.01) as world:
        world.connections.open[0].set()
        await world.ended.wait()
        assert (world.answered, world.told) == (False, "stopped: its client had left")


async def test_a_client_with_another_connection_has_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(monkeypatch, absent_secs=0, connections=2) as world:
        world.connections.open[0].set()
        await world.noticed.wait()
        world.answer.set()
        await world.ended.wait()
        assert world.answered
        world.connections.open[1].set()


async def test_a_client_that_comes_back_in_time_keeps_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(monkeypatch, absent_secs=2 * DEADLINE) as world:
        world.connections.open[0].set()
        await world.come()
        await world.noticed.wait()  # what waited for it to come back has ended
        world.answer.set()
        await world.ended.wait()
        assert world.answered
        world.connections.open[1].set()


async def test_nobody_is_waited_for_once_the_calls_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(monkeypatch, absent_secs=2 * DEADLINE) as world:
        world.connections.open[0].set()
        world.calls.close()
        await world.noticed.wait()
        assert (world.ended.is_set(), world.answered, world.told) == (True, False, "server is shutting down")
