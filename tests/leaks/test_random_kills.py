"""Whatever is killed, and whenever: a run ends in one of four ways, keeps what was heard of it, leaves nothing."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from clinvk.request import RunsRequest
from clinvk.response import ChainResult, ParallelResult, PromptResult
from clinvk.tools import runs
from clinvk.tools.app import App
from clinvk_command import COMMAND
from fakes import agent
from fakes.world import PATIENCE_SECS, World, create
from leaks.server import Server, serving, watch_all
from mcp_fakes.raw_client import SOURCE

pytestmark = pytest.mark.anyio

ENDINGS = {"completed", "failed", "cancelled", "interrupted"}
WORDS = ["zero ", "one ", "two ", "three ", "four "]
VICTIMS = ("server", "keeper", "supervisor", "agent", "server and keeper", "client", "nobody")
LONG_MOMENT = 20_000  # turns of the event loop: longer than a run takes to start
SHORT_MOMENT = 2_000  # between two steps of a run
STAGES = ("", "request.json", "keeper.json", "events.jsonl", "result.json")  # what a run writes as it goes on


def script(up: str, go: str, stop: int) -> str:
    """An agent that says words, can be met after the first `stop` of them, and brings up processes of its own."""
    steps: list[agent.Step] = [{"spawn": ["plain", "daemon"]}]
    for number, word in enumerate(WORDS):
        if number == stop:
            steps += [{"reach": up}, {"wait": go}]
        steps.append({"say": word})
    return agent.prompt(*steps)


def supervisor_of(world: World, run_id: str) -> int:
    told = (world.home / "runs" / run_id / "keeper.json").read_text(encoding="utf-8")
    state: dict[str, Any] = json.loads(told)
    return int(state["supervisor"]["pid"])


async def kill(world: World, server: Server, victim: str, told: dict[str, Any]) -> None:
    pids: list[int] = []
    match victim:
        case "supervisor":
            pids = [supervisor_of(world, told["run"])]
        case "agent":
            pids = [told["pid"]]
        case "client":  # all that a server sees of its end
            assert server.process.stdin is not None
            await server.process.stdin.aclose()
        case _:
            pids = [server.process.pid] if "server" in victim else []
            pids += [server.keeper] if "keeper" in victim else []
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def final(app: App, world: World, run_id: str) -> PromptResult | ChainResult | ParallelResult:
    with anyio.fail_after(PATIENCE_SECS):
        found = await runs.runs(app, RunsRequest(action="wait", run_id=run_id), world.caller())
    assert isinstance(found.result, PromptResult | ChainResult | ParallelResult)
    return found.result


@pytest.mark.parametrize("seed", range(28))
async def test_a_run_ends_in_one_way_and_leaves_nothing(tmp_path: Path, private_home: Path, seed: int) -> None:
    chance = random.Random(seed)
    victim, stop = VICTIMS[seed % len(VICTIMS)], chance.randrange(len(WORDS))
    handed, chained = chance.random() < 0.6, chance.random() < 0.4
    world = create(tmp_path / "world", private_home)
    up, go = world.fifo("up"), world.fifo("go")
    try:
        async with serving(world) as server:
            prompt = script(str(up), str(go), stop)
            request: dict[str, Any] = {"prompt": prompt, "backend": "claude"}
            if chained:
                request = {"steps": [request, {"prompt": "and then {{previous}}", "backend": "codex"}]}
            await server.ask("chain" if chained else "prompt", **request, **({"wait_secs": 0} if handed else {}))
            if handed:
                await server.told()
            told = await up.reached()
            world.processes.watch_agent(told)
            await kill(world, server, victim, told)
            if victim in ("nobody", "keeper") or (handed and victim in ("server", "server and keeper", "client")):
                await go.release()
                if not handed:
                    await server.told()
            async with world.app() as app:
                ended = {run_id: await final(app, world, run_id) for run_id in app.runs.ids()}
            watch_all(world)
            await server.leave()
            await world.processes.ended()
    finally:
        world.processes.kill()
    assert ended
    assert {result.status for result in ended.values()} <= ENDINGS
    said = "".join(WORDS[:stop])
    mine = ended[told["run"]]
    assert isinstance(mine, PromptResult)
    if victim != "supervisor":  # what is in the pipe when it is killed is gone
        assert mine.output.startswith(said)
    expected = {"nobody": "completed", "keeper": "completed", "supervisor": "interrupted", "agent": "failed"}
    assert mine.status == expected.get(victim, "completed" if handed else "cancelled")


@pytest.mark.parametrize("seed", range(12))
async def test_whenever_it_is_killed_no_run_stays_without_an_end(tmp_path: Path, private_home: Path, seed: int) -> None:
    chance = random.Random(seed)
    victim, handed = ("server", "keeper", "server and keeper", "client")[seed % 4], chance.random() < 0.5
    world = create(tmp_path / "world", private_home)
    steps: list[agent.Step] = [{"spawn": ["plain", "daemon"]}, *({"say": word} for word in WORDS)]
    tasks = [{"prompt": agent.prompt(*steps), "backend": name} for name in ("claude", "codex", "gemini")]
    try:
        async with serving(world) as server:
            await server.ask("parallel", tasks=tasks, max_parallel=2, **({"wait_secs": 0} if handed else {}))
            for _ in range(chance.randrange(LONG_MOMENT)):
                await anyio.lowlevel.checkpoint()
            await kill(world, server, victim, {})
            with anyio.fail_after(PATIENCE_SECS):
                if victim != "keeper":
                    await server.process.wait()
            async with world.app() as app:
                ended = [(await final(app, world, run_id)).status for run_id in app.runs.ids()]
            watch_all(world)
            await server.leave()
            await world.processes.ended()
    finally:
        world.processes.kill()
    assert set(ended) <= ENDINGS


@pytest.mark.parametrize("seed", range(10))
async def test_whenever_the_command_is_killed_what_it_told_of_is_kept(
    tmp_path: Path, private_home: Path, seed: int
) -> None:
    chance = random.Random(seed)
    world = create(tmp_path / "world", private_home)
    steps: list[agent.Step] = [{"spawn": ["plain", "daemon"]}, *({"say": word} for word in WORDS)]
    words = ["prompt", agent.prompt(*steps), "-b", "claude", "-o", "json", *["--background"] * (seed % 2)]
    stage = STAGES[seed // 2]
    environ = world.environ | {"PYTHONPATH": str(SOURCE)}
    try:
        async with await anyio.open_process([*COMMAND, *words], env=environ, cwd=world.workdir, stderr=None) as command:
            with anyio.fail_after(PATIENCE_SECS):
                while stage and command.returncode is None and not list((world.home / "runs").glob(f"[!.]*/{stage}")):
                    await anyio.lowlevel.checkpoint()
            for _ in range(chance.randrange(SHORT_MOMENT)):
                await anyio.lowlevel.checkpoint()
            if command.returncode is None:
                command.kill()
            assert command.stdout is not None
            with anyio.fail_after(PATIENCE_SECS):
                told = b"".join([piece async for piece in command.stdout])
                await command.wait()
        async with world.app() as app:
            ended = {run_id: await final(app, world, run_id) for run_id in app.runs.ids()}
        watch_all(world)
        await world.processes.ended()
    finally:
        world.processes.kill()
    assert {result.status for result in ended.values()} <= ENDINGS
    if told.endswith(b"\n"):
        assert ended[json.loads(told)["run_id"]].status == "completed"
