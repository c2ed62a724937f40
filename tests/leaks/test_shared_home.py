"""Two MCP servers and the command on one home at once: nothing is lost, nothing is done twice."""

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from clinvk_command import COMMAND
from fakes import agent
from fakes.world import World
from leaks.server import watch_all
from mcp_fakes.in_memory import structured
from mcp_fakes.raw_client import SOURCE

pytestmark = pytest.mark.anyio

DEADLINE = 600  # many processes; minutes where others keep the machine busy
COMMAND_LINE = 2  # the third caller, after the two servers
CALLERS = range(3)
PROMPTS = 2  # of each caller, twice
TURNS = 2  # of each caller, all in one session
LOOKS = 2  # of each caller at what the others do

Told = dict[str, Any]


@dataclass
class Shared:
    """One home, two servers and the command on it, and what was answered so far."""

    world: World
    servers: list[Client]
    answers: list[Told] = field(default_factory=list[Told])

    async def tool(self, server: int, tool: str, **arguments: Any) -> Told:
        """What a tool of one of the servers answers."""
        return structured(await self.servers[server].call_tool(tool, arguments))

    async def command(self, *words: str) -> Told:
        """What the command answers, failures included."""
        argv = [*COMMAND, *words, "-o", "json"]
        done = await anyio.run_process(argv, env=environ(self.world), cwd=self.world.workdir, check=False)
        told: Told = json.loads(done.stdout)
        return told

    async def ask(self, caller: int, text: str, session_id: str | None = None) -> Told:
        """One prompt, waited for."""
        if caller == COMMAND_LINE:
            session = () if session_id is None else ("--session", session_id)
            return await self.command("prompt", text, "-b", "claude", *session)
        session_id_of = {} if session_id is None else {"session_id": session_id}
        return await self.tool(caller, "prompt", prompt=text, backend="claude", **session_id_of)

    async def hand_out(self, caller: int, text: str) -> str:
        """The id of a run that goes on."""
        if caller == COMMAND_LINE:
            told = await self.command("prompt", text, "-b", "claude", "--background")
        else:
            told = await self.tool(caller, "prompt", prompt=text, backend="claude", wait_secs=0)
        assert told["status"] == "running"
        return str(told["run_id"])

    async def wait(self, caller: int, run_id: str) -> Told:
        """The result of a run, whoever drives it."""
        if caller == COMMAND_LINE:
            return await self.command("runs", "wait", run_id)
        result: Told = (await self.tool(caller, "runs", action="wait", run_id=run_id))["result"]
        return result

    async def cancel(self, caller: int, run_id: str) -> str:
        """Stop a run, whoever drives it; its status then."""
        if caller == COMMAND_LINE:
            return str((await self.command("runs", "cancel", run_id))["status"])
        return str((await self.tool(caller, "cancel", run_id=run_id))["status"])

    async def listed(self, caller: int, what: str) -> list[Told]:
        """Sessions or runs as they are listed; nothing on this home may look damaged meanwhile."""
        if caller == COMMAND_LINE:
            told = await self.command(what, "list", "--limit", "100")
        else:
            told = await self.tool(caller, what, action="list", limit=100)
        assert not told.get("warnings"), told
        listed: list[Told] = told[what]
        return listed


def environ(world: World) -> dict[str, str]:
    return world.environ | {"PYTHONPATH": str(SOURCE)}


@asynccontextmanager
async def shared(world: World) -> AsyncGenerator[Shared]:
    server = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "mcp"], env=environ(world), cwd=str(world.workdir)
    )
    with anyio.fail_after(DEADLINE):
        async with Client(server) as one, Client(server) as two:
            yield Shared(world, [one, two])


async def prompting(home: Shared, caller: int, name: str = "prompt") -> None:
    for number in range(PROMPTS):
        told = await home.ask(caller, f"{name} {number} of {caller}")
        assert (told["status"], told["output"]) == ("completed", f"echo: {name} {number} of {caller}")
        home.answers.append(told)


async def continuing(home: Shared, caller: int, session_id: str) -> None:
    for number in range(TURNS):
        text = f"turn {number} of {caller}"
        while (told := await home.ask(caller, text, session_id))["error"]:
            assert told["error"]["code"] == "session_busy", told
        assert (told["status"], told["session_id"], told["output"]) == ("completed", session_id, f"echo: {text}")


async def waiting(home: Shared, caller: int) -> None:
    """A run of `caller` is waited for by everybody at once."""
    up, go = home.world.fifo(f"up-{caller}"), home.world.fifo(f"go-{caller}")
    steps: list[agent.Step] = [{"reach": str(up)}, {"wait": str(go)}, {"answer": f"answer for {caller}"}]
    run_id = await home.hand_out(caller, agent.prompt(*steps, text=f"held for {caller}"))
    home.world.processes.watch_agent(await up.reached())
    heard: list[str] = []

    async def wait(who: int) -> None:
        told = await home.wait(who, run_id)
        assert "output" in told, told
        heard.append(told["output"])

    async with anyio.create_task_group() as tasks:
        for who in CALLERS:
            tasks.start_soon(wait, who)
        await go.release()
    assert heard == [f"answer for {caller}"] * len(CALLERS)


async def cancelling(home: Shared, caller: int) -> None:
    """A run of `caller` is cancelled by the next one."""
    up = home.world.fifo(f"cancel-{caller}")
    steps: list[agent.Step] = [{"ignore": True}, {"spawn": ["daemon"]}, {"reach": str(up)}, {"hang": True}]
    run_id = await home.hand_out(caller, agent.prompt(*steps, text=f"hangs for {caller}"))
    home.world.processes.watch_agent(await up.reached())
    assert await home.cancel((caller + 1) % len(CALLERS), run_id) == "cancelled"
    assert (await home.wait((caller + 2) % len(CALLERS), run_id))["status"] == "cancelled"


async def looking(home: Shared, caller: int) -> None:
    for _ in range(LOOKS):
        for what in ("runs", "sessions"):
            await home.listed(caller, what)


async def cleaning(home: Shared, *which: str) -> None:
    for _ in range(LOOKS):
        await home.command("runs", "clean", *which, "--yes")
        await home.command("sessions", "clean", "--older-than", "1", "--yes")


def prompts_of(world: World) -> Counter[str]:
    """What the agent was asked, by first line."""
    return Counter(call["prompt"].splitlines()[0] for call in world.calls())


async def test_two_servers_and_the_command_share_a_home(world: World) -> None:
    async with shared(world) as home:
        session_id = (await home.ask(0, "the first"))["session_id"]
        unread = {f"unread of {caller}": await home.hand_out(caller, f"unread of {caller}") for caller in CALLERS}
        async with anyio.create_task_group() as tasks:
            for caller in CALLERS:
                for do in (prompting, waiting, cancelling, looking):
                    tasks.start_soon(do, home, caller)
                tasks.start_soon(continuing, home, caller, session_id)
            tasks.start_soon(cleaning, home)
        async with anyio.create_task_group() as tasks:
            for caller in CALLERS:
                tasks.start_soon(prompting, home, caller, "late")
                tasks.start_soon(looking, home, caller)
            tasks.start_soon(cleaning, home, "--all")  # what one caller has read is gone for the others
        shown = await home.tool(1, "sessions", action="show", session_id=session_id, limit=100)
        sessions = [await home.listed(caller, "sessions") for caller in CALLERS]
        kept = {run["run_id"]: run["unread"] for run in await home.listed(COMMAND_LINE, "runs")}
        fetched = {text: await home.wait(0, run_id) for text, run_id in unread.items()}
    watch_all(world)
    await world.processes.ended()

    turns = [f"turn {number} of {caller}" for caller in CALLERS for number in range(TURNS)]
    names = [f"{name} {number}" for name in ("prompt", "late") for number in range(PROMPTS)]
    asked = [f"{name} of {caller}" for caller in CALLERS for name in names]
    others = [f"{what} for {caller}" for caller in CALLERS for what in ("held", "hangs")]
    assert prompts_of(world) == Counter(["the first", *turns, *asked, *others, *unread])
    told = {turn["prompt"]: turn["output"] for turn in shown["turns"]}
    assert told == {text: f"echo: {text}" for text in ["the first", *turns]}
    assert [turn["number"] for turn in shown["turns"]] == list(range(1, len(turns) + 2))
    ids = [{session["id"]: session["turn_count"] for session in listed} for listed in sessions]
    assert ids[0] == ids[1] == ids[2]
    assert {answer["session_id"] for answer in home.answers} < set(ids[0])
    assert Counter(ids[0].values())[1] == len(ids[0]) - 1
    assert len({answer["run_id"] for answer in home.answers}) == len(asked)
    assert {run_id: kept.get(run_id) for run_id in unread.values()} == dict.fromkeys(unread.values(), True)
    assert {text: result["output"] for text, result in fetched.items()} == {text: f"echo: {text}" for text in unread}
