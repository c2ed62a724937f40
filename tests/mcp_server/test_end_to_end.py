"""The product's server as a process, with scripted agents behind it and clients of the SDK or raw lines before it."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from clinvk.backends.registry import BACKENDS
from fakes import agent
from fakes.world import World
from mcp_fakes.http_server import REAL_SERVER, call, opened, serving
from mcp_fakes.in_memory import MODES, Mode, structured, text_of
from mcp_fakes.raw_client import SOURCE, RawClient, started

pytestmark = pytest.mark.anyio

DEADLINE = 60
LAUNCH = str(Path(__file__).parents[1] / "mcp_fakes" / "launch.py")
STDIO = (sys.executable, LAUNCH, "limits.kill_grace_secs=0.1")
HTTP = (*REAL_SERVER, "limits.kill_grace_secs=0.1")


def environ(world: World) -> dict[str, str]:
    return world.environ | {"PYTHONPATH": str(SOURCE)}


@asynccontextmanager
async def connected(world: World, transport: str, mode: Mode) -> AsyncGenerator[Client]:
    """A client of the SDK on a server process."""
    with anyio.fail_after(DEADLINE):
        if transport == "stdio":
            server = StdioServerParameters(
                command=sys.executable, args=[LAUNCH], env=environ(world), cwd=str(world.workdir)
            )
            async with Client(server, mode=mode) as client:
                yield client
        else:
            async with serving(HTTP, env=environ(world)) as process, Client(process.url, mode=mode) as client:
                yield client


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_conversation_is_begun_continued_listed_and_deleted(world: World, transport: str, mode: Mode) -> None:
    async with connected(world, transport, mode) as client:
        await client.list_tools()
        where = {"workdir": str(world.workdir)}
        first = await client.call_tool("prompt", {"prompt": "hello", "backend": "claude", **where})
        assert text_of(first).startswith("echo: hello\n\n[claude")
        session_id = structured(first)["session_id"]
        second = await client.call_tool("prompt", {"prompt": "again", "session_id": session_id})
        assert structured(second)["output"] == "echo: again"
        shown = structured(await client.call_tool("sessions", {"action": "show", "session_id": session_id}))
        assert [turn["output"] for turn in shown["turns"]] == ["echo: hello", "echo: again"]
        (content,) = (await client.read_resource(f"clinvk://sessions/{session_id}")).contents
        assert "echo: again" in content.model_dump_json()
        runs = structured(await client.call_tool("runs", {"action": "list"}))
        assert [run["status"] for run in runs["runs"]] == ["completed", "completed"]
        await client.call_tool("session_edit", {"action": "delete", "session_id": session_id})
        gone = await client.call_tool("prompt", {"prompt": "again", "session_id": session_id})
        assert structured(gone)["error"]["code"] == "session_not_found"


@pytest.mark.parametrize("mode", MODES)
async def test_every_way_of_running_prompts_works(world: World, mode: Mode) -> None:
    tasks = [{"prompt": f"task {number}", "backend": name} for number, name in enumerate(("claude", "codex", "gemini"))]
    steps = [{"prompt": "one", "backend": "claude", "name": "first"}, {"prompt": "<{{previous}}>", "backend": "codex"}]
    async with connected(world, "stdio", mode) as client:
        await client.list_tools()
        parallel = await client.call_tool("parallel", {"tasks": tasks})
        chain = await client.call_tool("chain", {"steps": steps})
        compare = await client.call_tool("compare", {"prompt": "which?", "backends": ["claude", "gemini"]})
        backends = await client.call_tool("backends", {})
    assert [part["output"] for part in structured(parallel)["results"]] == [f"echo: task {n}" for n in range(3)]
    assert structured(chain)["results"][1]["output"] == "echo: <echo: one>"
    assert {part["backend"] for part in structured(compare)["results"]} == {"claude", "gemini"}
    assert [info["name"] for info in structured(backends)["backends"]] == list(BACKENDS)
    assert [result.is_error for result in (parallel, chain, compare, backends)] == [False] * 4


@pytest.mark.parametrize("mode", MODES)
async def test_every_way_of_running_prompts_can_be_a_dry_run(world: World, mode: Mode) -> None:
    dry = {"prompt": "x", "backend": "claude", "dry_run": True}
    async with connected(world, "stdio", mode) as client:
        await client.list_tools()
        parallel = await client.call_tool("parallel", {"tasks": [dry, {**dry, "backend": "codex", "name": "b"}]})
        chain = await client.call_tool("chain", {"steps": [{**dry, "name": "a"}]})
        compare = await client.call_tool("compare", {"prompt": "x", "backends": ["gemini"], "dry_run": True})
        mixed = await client.call_tool("parallel", {"tasks": [dry, {"prompt": "x", "backend": "claude"}]})
        runs = await client.call_tool("runs", {"action": "list"})
    assert [(part["task"], part["name"]) for part in structured(parallel)["results"]] == [(1, None), (2, "b")]
    assert [(part["step"], part["name"]) for part in structured(chain)["results"]] == [(1, "a")]
    assert [part["backend"] for part in structured(compare)["results"]] == ["gemini"]
    assert "## Task 2 (b)\nWould run codex in " in text_of(parallel)
    assert [result.is_error for result in (parallel, chain, compare, mixed)] == [False, False, False, True]
    assert structured(runs)["total"] == 0


async def test_a_long_run_is_handed_out_and_fetched_later(world: World) -> None:
    gate = world.fifo("gate")
    steps = agent.prompt({"say": "half "}, {"wait": str(gate)}, {"say": "done"})
    async with connected(world, "stdio", "auto") as client:
        given = {"prompt": steps, "backend": "claude", "wait_secs": 0}
        running = await client.call_tool("prompt", given)
        assert structured(running)["status"] == "running"
        assert not running.is_error
        run_id = structured(running)["run_id"]
        assert f'runs {{"action": "wait", "run_id": "{run_id}"}}' in text_of(running)
        await gate.release()
        result = await client.call_tool("runs", {"action": "wait", "run_id": run_id, "wait_secs": 30})
    assert structured(result)["result"]["output"] == "half done"


@pytest.mark.parametrize(("transport", "mode"), [("stdio", "legacy"), ("http", "legacy"), ("http", "auto")])
async def test_progress_tells_what_the_agent_says_and_does(world: World, transport: str, mode: Mode) -> None:
    told: list[str] = []
    heard = anyio.Event()
    gate = world.fifo("gate")

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")
        if told[-1].endswith("reading the code"):
            heard.set()

    steps = agent.prompt({"say": "reading the code"}, {"wait": str(gate)})
    async with connected(world, transport, mode) as client, anyio.create_task_group() as group:

        async def run() -> None:
            await client.call_tool("prompt", {"prompt": steps, "backend": "claude"}, progress_callback=listen)

        group.start_soon(run)
        await heard.wait()
        await gate.release()
    assert told[0] in ("claude · queued 0s", "claude · running 0s · started")


async def waiting_call(world: World, client: RawClient) -> None:
    """A call whose agent has started processes that ignore signals, and waits."""
    reached = world.fifo("reached")
    steps = agent.prompt({"ignore": True}, {"spawn": ["plain", "setsid"]}, {"reach": str(reached)}, {"hang": True})
    await client.initialize()
    await client.call(7, "prompt", {"prompt": steps, "backend": "claude"})
    world.processes.watch_agent(await reached.reached())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_no_process_of_a_call_outlives_a_signal_to_the_server(world: World, number: signal.Signals) -> None:
    with anyio.fail_after(DEADLINE):
        async with started(STDIO, env=environ(world), cwd=world.workdir) as client:
            await waiting_call(world, client)
            client.process.send_signal(number)
            assert await client.process.wait() == (-9 if number == signal.SIGKILL else 0)
            await world.processes.ended()


async def test_no_process_of_a_call_outlives_its_client(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with started(STDIO, env=environ(world), cwd=world.workdir) as client:
            await waiting_call(world, client)
            await client.close_stdin()
            assert await client.process.wait() == 0
            await world.processes.ended()


async def test_no_process_of_a_call_outlives_its_cancellation(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with started(STDIO, env=environ(world), cwd=world.workdir) as client:
            await waiting_call(world, client)
            await client.send({"method": "notifications/cancelled", "params": {"requestId": 7}})
            await world.processes.ended()
            assert (await client.request("ping", "ping"))["result"] == {}


@pytest.mark.parametrize("modern", [False, True])
async def test_no_process_of_a_call_over_http_outlives_the_server(world: World, modern: bool) -> None:
    import httpx2

    reached = world.fifo("reached")
    steps = agent.prompt({"ignore": True}, {"spawn": ["setsid"]}, {"reach": str(reached)}, {"hang": True})
    with anyio.fail_after(DEADLINE):
        async with serving(HTTP, env=environ(world)) as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=modern)
            message = call(1, {"prompt": steps, "backend": "claude", "workdir": str(world.workdir)}, modern=modern)
            async with anyio.create_task_group() as group:

                async def post() -> None:
                    await client.post(server.url, json=message, headers=headers)

                group.start_soon(post)
                world.processes.watch_agent(await reached.reached())
                server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            await world.processes.ended()


async def test_a_server_started_by_a_gui_application_works_without_environment_and_directory(world: World) -> None:
    steps = {"prompt": "where", "backend": "offline"}
    env = {"HOME": world.environ["HOME"], "PYTHONPATH": str(SOURCE)}
    with anyio.fail_after(DEADLINE):
        async with started(STDIO, env=env, cwd=Path("/")) as client:
            answer = await client.initialize()
            scratch = Path(env["HOME"]) / ".clinvk" / "scratch"
            assert str(scratch) in answer["result"]["instructions"]
            await client.call(1, "prompt", steps)
            assert (await client.answer(1))["result"]["structuredContent"]["status"] == "completed"
            await client.call(2, "sessions", {"action": "list"})
            (session,) = (await client.answer(2))["result"]["structuredContent"]["sessions"]
    assert Path(session["working_dir"]) == scratch.resolve()


async def test_folders_of_the_project_cannot_shadow_the_servers_own(world: World) -> None:
    for name in ("tools", "sessions", "mcp_server", "config", "mcp", "pydantic", "anyio", "clinvk"):
        folder = world.workdir / name
        folder.mkdir()
        (folder / "__init__.py").write_text("print('shadow'); raise SystemExit(9)\n", encoding="utf-8")
    command = (sys.executable, LAUNCH)
    with anyio.fail_after(DEADLINE):
        async with started(command, env=environ(world), cwd=world.workdir) as client:
            assert (await client.initialize())["result"]["serverInfo"]["name"] == "clinvk"


async def test_a_home_that_cannot_be_used_is_told_in_words(world: World) -> None:
    blocked = world.root / "blocked"
    blocked.write_text("a file", encoding="utf-8")
    env: dict[str, Any] = environ(world) | {"CLINVK_HOME": str(blocked / "home")}
    with anyio.fail_after(DEADLINE):
        done = await anyio.run_process(STDIO, env=env, input=b"", check=False)
    assert done.returncode == 3
    assert str(blocked) in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert os.fsdecode(done.stdout) == ""


async def test_the_answers_of_many_agents_fit_into_one_and_the_rest_is_one_call_away(world: World) -> None:
    tasks = [{"prompt": agent.prompt({"chars": 60_000}), "backend": "claude", "name": name} for name in "abcd"]
    async with connected(world, "stdio", "auto") as client:
        result = await client.call_tool("parallel", {"tasks": tasks})
        parts = structured(result)["results"]
        assert [(len(part["output"]), part["output_chars"]) for part in parts] == [(20_000, 60_000)] * 4
        assert len(text_of(result)) < 90_000
        more = {"action": "output", "run_id": parts[3]["run_id"], "offset": 20_000, "limit": 100_000}
        rest = structured(await client.call_tool("runs", more))
    assert (len(rest["text"]), rest["next_offset"], rest["total_chars"]) == (40_000, None, 60_000)
