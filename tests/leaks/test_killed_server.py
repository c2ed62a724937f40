"""The server is killed with SIGKILL: what was handed out goes on and is finished, all else dies."""

import json
import os
import signal
from pathlib import Path

import anyio
import pytest

from clinvk.executor.proctree import children
from clinvk.request import CancelRequest, RunsRequest, SessionsRequest
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult, RunsResult
from clinvk.tools import runs, sessions
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, Fifo, World
from leaks.server import serving, watch_all

pytestmark = pytest.mark.anyio

WAYS = pytest.mark.parametrize("way", ["killed", "leaves"])


def held(world: World, name: str, *first: agent.Step, text: str = "do as you are told") -> tuple[str, Fifo, Fifo]:
    """A prompt of an agent that reports at one FIFO, and answers with its name once it is let go at another."""
    up, go = world.fifo(f"{name}-up"), world.fifo(f"{name}-go")
    steps = [*first, {"reach": str(up)}, {"wait": str(go)}, {"answer": f"answer of {name}"}]
    return agent.prompt(*steps, text=text), up, go


async def waited(app: App, world: World, run_id: str) -> RunsResult:
    with anyio.fail_after(PATIENCE_SECS):
        return await runs.runs(app, RunsRequest(action="wait", run_id=run_id), world.caller())


async def all_ended(world: World) -> None:
    watch_all(world)
    await world.processes.ended()


async def test_a_run_that_somebody_waits_for_dies_with_the_server(world: World) -> None:
    prompt, up, _ = held(world, "a", {"ignore": True}, {"spawn": [*agent.KINDS]})
    async with serving(world) as server:
        await server.ask("prompt", prompt=prompt, backend="claude")
        told = await up.reached()
        world.processes.watch_agent(told)
        await server.kill()
        await all_ended(world)
    async with world.app() as app:
        found = await waited(app, world, told["run"])
    assert isinstance(found.result, PromptResult)
    assert (found.result.status, found.result.error and found.result.error.code) == ("cancelled", "cancelled")


@WAYS
async def test_a_handed_out_prompt_goes_on(world: World, way: str) -> None:
    prompt, up, go = held(world, "a", {"spawn": [*agent.KINDS]})
    async with serving(world) as server:
        running = await server.running("prompt", prompt=prompt, backend="claude")
        world.processes.watch_agent(await up.reached())
        await (server.kill() if way == "killed" else server.leave())
        await go.release()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
            listed = await sessions.sessions(app, SessionsRequest(action="list"))
        await all_ended(world)
    assert isinstance(found.result, PromptResult)
    assert (found.result.status, found.result.output) == ("completed", "answer of a")
    assert [(one.id, one.turn_count) for one in listed.sessions] == [(running["session_id"], 1)]


@WAYS
async def test_a_handed_out_prompt_whose_server_had_no_time_to_stop_it_is_stopped(world: World, way: str) -> None:
    prompt, up, _ = held(world, "a", {"spawn": [*agent.KINDS]})
    async with serving(world) as server, world.app() as app:
        running = await server.running("prompt", prompt=prompt, backend="claude")
        world.processes.watch_agent(await up.reached())
        app.runs.mark(running["run_id"], "cancel")
        await (server.kill() if way == "killed" else server.leave())
        found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, PromptResult)
    assert found.result.status == "cancelled"


@WAYS
async def test_a_handed_out_prompt_that_was_still_queued_is_run_under_its_announced_session(
    world: World, way: str
) -> None:
    first, up, go = held(world, "first")
    async with serving(world, limits__max_concurrent=1) as server:
        one = await server.running("prompt", prompt=first, backend="claude")
        world.processes.watch_agent(await up.reached())
        two = await server.running("prompt", prompt="second", backend="claude")
        await (server.kill() if way == "killed" else server.leave())
        async with world.app() as app:
            queued = await waited(app, world, two["run_id"])
            await go.release()
            found = await waited(app, world, one["run_id"])
        await all_ended(world)
    assert isinstance(found.result, PromptResult)
    assert isinstance(queued.result, PromptResult)
    assert (found.result.status, queued.result.status) == ("completed", "completed")
    assert (queued.result.output, queued.result.session_id) == ("echo: second", two["session_id"])


async def test_a_queued_turn_whose_session_was_taken_meanwhile_waits_for_it(world: World) -> None:
    first, up, go = held(world, "first")
    async with serving(world, limits__max_concurrent=1) as server:
        await server.ask("prompt", prompt="begin", backend="claude")
        session_id = (await server.told())["result"]["session_id"]
        one = await server.running("prompt", prompt=first, backend="claude")
        world.processes.watch_agent(await up.reached())
        two = await server.running("prompt", prompt="second", session_id=session_id)
        await server.kill()
        async with world.app() as app:
            with app.sessions.turn_lock(session_id):
                await go.release()
                await waited(app, world, one["run_id"])  # so the heir is there, and has begun with both
                looked = await runs.runs(app, RunsRequest(action="status", run_id=two["run_id"]), world.caller())
            found = await waited(app, world, two["run_id"])
            shown = await sessions.sessions(app, SessionsRequest(action="show", session_id=session_id))
        await all_ended(world)
    assert isinstance(looked.result, PromptResult)
    assert isinstance(found.result, PromptResult)
    assert (looked.result.status, found.result.status) == ("running", "completed")
    assert [turn.prompt for turn in shown.turns or ()] == ["begin", "second"]


@pytest.mark.parametrize("damaged_first", [True, False], ids=["before", "after"])
async def test_a_run_whose_record_was_damaged_does_not_keep_the_others_from_being_driven_on(
    world: World, damaged_first: bool
) -> None:
    prompt, up, go = held(world, "one")
    steps = [{"prompt": prompt, "backend": "claude"}, {"prompt": "two got {{previous}}", "backend": "codex"}]
    other, other_up, other_go = held(world, "other")
    async with serving(world) as server:
        requests: list[tuple[str, dict[str, object]]] = [
            ("chain", {"steps": steps}),
            ("prompt", {"prompt": other, "backend": "gemini"}),
        ]
        begun = {
            do: (await server.running(do, **request))["run_id"]
            for do, request in requests[:: -1 if damaged_first else 1]
        }
        for meeting in (up, other_up):
            world.processes.watch_agent(await meeting.reached())
        (world.home / "runs" / begun["prompt"] / "request.json").write_bytes(b"{")
        await server.kill()
        await other_go.release()
        await go.release()
        async with world.app() as app:
            found = await waited(app, world, begun["chain"])
        await all_ended(world)
    assert isinstance(found.result, ChainResult)
    assert [step.output for step in found.result.results] == ["answer of one", "echo: two got answer of one"]
    assert f"run {begun['prompt']}" in (world.home / "heirs.log").read_text(encoding="utf-8")


@WAYS
async def test_a_handed_out_chain_continues_with_its_remaining_steps(world: World, way: str) -> None:
    prompt, up, go = held(world, "one")
    steps = [
        {"prompt": prompt, "backend": "claude", "name": "a"},
        {"prompt": "two got {{previous}}", "backend": "codex"},
        {"prompt": "three got {{steps.a}} and {{previous}}", "backend": "gemini"},
    ]
    async with serving(world) as server:
        running = await server.running("chain", steps=steps)
        world.processes.watch_agent(await up.reached())
        await (server.kill() if way == "killed" else server.leave())
        await go.release()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, ChainResult)
    assert found.result.status == "completed"
    assert [result.output for result in found.result.results] == [
        "answer of one",
        "echo: two got answer of one",
        "echo: three got answer of one and echo: two got answer of one",
    ]
    assert len(world.calls("claude")) == 1


@WAYS
async def test_a_handed_out_parallel_keeps_what_was_done_and_does_the_rest(world: World, way: str) -> None:
    prompt, up, go = held(world, "two")
    tasks = [{"prompt": text, "backend": "claude"} for text in ("one", prompt, "three", "four")]
    done = world.fifo("done")
    tasks[2]["prompt"] = agent.prompt({"reach": str(done)}, {"answer": "three"})
    async with serving(world) as server:
        running = await server.running("parallel", tasks=tasks, max_parallel=1)
        world.processes.watch_agent(await up.reached())
        await (server.kill() if way == "killed" else server.leave())
        await go.release()
        await done.reached()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, ParallelResult)
    assert [result.output for result in found.result.results] == ["echo: one", "answer of two", "three", "echo: four"]
    assert len(world.calls("claude")) == 4


async def test_a_handed_out_compare_is_judged_after_the_server_was_killed(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    agent.decide(world.bin, "claude", {"reach": str(up)}, {"wait": str(go)}, {"answer": "from claude"})
    agent.decide(world.bin, "codex", {"answer": "from codex"})
    agent.decide(world.bin, "gemini", {"answer": '{"winner": "A", "scores": {"A": 9, "B": 1}, "reasons": "good"}'})
    async with serving(world) as server:
        running = await server.running("compare", prompt="which", backends=["claude", "codex"], judge="gemini")
        world.processes.watch_agent(await up.reached())
        await server.kill()
        await go.release()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, CompareResult)
    assert {result.output for result in found.result.results} == {"from claude", "from codex"}
    assert found.result.verdict is not None
    assert found.result.ranking[0].backend == found.result.verdict.winner


async def test_a_result_that_nobody_fetched_is_listed_first_by_another_process(world: World) -> None:
    async with serving(world) as server:
        running = await server.running("prompt", prompt="hello", backend="claude")
        await server.ask("runs", action="wait", run_id=running["run_id"])
        assert (await server.told())["result"]["result"]["status"] == "completed"
        unread = await server.running("prompt", prompt="other", backend="claude")
        read = await server.running("prompt", prompt="newest", backend="claude")
        await server.ask("runs", action="wait", run_id=read["run_id"])
        await server.told()
        await server.kill()
    async with world.app() as app:
        with anyio.fail_after(PATIENCE_SECS):
            while (listed := await runs.runs(app, RunsRequest(action="list"), world.caller())).runs is not None:
                if all(run.status == "completed" for run in listed.runs):
                    break
                await anyio.lowlevel.checkpoint()
        await all_ended(world)
    assert listed.runs is not None
    assert [(run.run_id, run.unread) for run in listed.runs] == [
        (unread["run_id"], True),
        (read["run_id"], False),
        (running["run_id"], False),
    ]


async def test_another_process_cancels_what_an_heir_drives(world: World) -> None:
    prompt, up, _ = held(world, "one", {"ignore": True}, {"spawn": [*agent.KINDS]})
    steps = [{"prompt": prompt, "backend": "claude"}, {"prompt": "never", "backend": "claude"}]
    async with serving(world) as server:
        running = await server.running("chain", steps=steps)
        world.processes.watch_agent(await up.reached())
        await server.kill()
        async with world.app() as app:
            with anyio.fail_after(PATIENCE_SECS):
                cancelled = await runs.cancel(app, CancelRequest(run_id=running["run_id"]))
        await all_ended(world)
    assert cancelled.status == "cancelled"
    assert len(world.calls("claude")) == 1


def heirs(world: World, run_id: str) -> list[int]:
    """The processes that have the run on their command line."""
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as cmdline:  # noqa: PTH123
                    words = cmdline.read()
            except OSError:
                continue
            if run_id.encode() in words and str(world.home).encode() in words:
                found.append(int(name))
    return found


async def test_a_chain_survives_its_heir_too(world: World) -> None:
    prompt, up, go = held(world, "one")
    second, second_up, second_go = held(world, "two", text="after {{previous}}")
    steps = [{"prompt": text, "backend": "claude"} for text in (prompt, second, "three got {{previous}}")]
    async with serving(world) as server:
        running = await server.running("chain", steps=steps)
        world.processes.watch_agent(await up.reached())
        await server.kill()
        await go.release()
        world.processes.watch_agent(await second_up.reached())
        [heir] = heirs(world, running["run_id"])
        watch_all(world)
        os.kill(heir, signal.SIGKILL)
        await second_go.release()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, ChainResult)
    assert [result.output for result in found.result.results] == [
        "answer of one",
        "answer of two",
        "echo: three got answer of two",
    ]
    assert found.result.status == "completed"


def is_keeper_of(pid: int, run_id: str) -> bool:
    """Whether a process is a keeper that was handed the lock of a run."""
    try:
        if b"keeper.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False  # a copy of its parent, with all that is open there
        return any(str(fd.readlink()).endswith(f"{run_id}/run.lock") for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


async def test_a_chain_goes_on_when_its_keeper_and_then_its_server_were_killed(world: World) -> None:
    prompt, up, go = held(world, "one")
    steps = [{"prompt": text, "backend": "claude"} for text in (prompt, "two got {{previous}}")]
    async with serving(world) as server:
        running = await server.running("chain", steps=steps)
        world.processes.watch_agent(await up.reached())
        os.kill(server.keeper, signal.SIGKILL)
        with anyio.fail_after(PATIENCE_SECS):
            while not any(
                pid != server.keeper and is_keeper_of(pid, running["run_id"]) for pid in children(server.process.pid)
            ):
                await anyio.lowlevel.checkpoint()
        await server.kill()
        await go.release()
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(found.result, ChainResult)
    assert [result.output for result in found.result.results] == ["answer of one", "echo: two got answer of one"]


@pytest.mark.parametrize("cancelled", [False, True], ids=["goes on", "cancelled"])
async def test_a_chain_that_nobody_drives_any_more_ends_with_the_step_that_went_on(
    world: World, cancelled: bool
) -> None:
    prompt, up, go = held(world, "one")
    steps = [{"prompt": text, "backend": "claude"} for text in (prompt, "two got {{previous}}")]
    async with serving(world) as server:
        running = await server.running("chain", steps=steps)
        world.processes.watch_agent(await up.reached())
        for pid in (server.process.pid, server.keeper):  # stopped first, so that neither can make up for the other
            os.kill(pid, signal.SIGSTOP)
        os.kill(server.keeper, signal.SIGKILL)
        await server.kill()
        async with world.app() as app:
            looked = await runs.runs(app, RunsRequest(action="status", run_id=running["run_id"]), world.caller())
            if cancelled:
                with anyio.fail_after(PATIENCE_SECS):
                    await runs.cancel(app, CancelRequest(run_id=running["run_id"]))
            else:
                await go.release()
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(looked.result, ChainResult)
    assert isinstance(found.result, ChainResult)
    assert (looked.result.status, [step.status for step in looked.result.results]) == ("running", ["running"])
    ended = ("cancelled", "") if cancelled else ("interrupted", "answer of one")
    assert [(found.result.status, step.output) for step in found.result.results] == [ended]


async def test_tasks_that_were_queued_when_the_server_was_killed_are_run(world: World) -> None:
    prompt, up, go = held(world, "one")
    tasks = [{"prompt": text, "backend": "claude"} for text in (prompt, "two", "three")]
    async with serving(world, limits__max_concurrent=1) as server:
        running = await server.running("parallel", tasks=tasks)
        world.processes.watch_agent(await up.reached())
        await server.kill()
        async with world.app() as app:
            # looking at it before its heir is up must not settle what the heir is about to do
            shown = await runs.runs(app, RunsRequest(action="status", run_id=running["run_id"]), world.caller())
            await go.release()
            found = await waited(app, world, running["run_id"])
        await all_ended(world)
    assert isinstance(shown.result, ParallelResult)
    assert [result.status for result in shown.result.results] == ["running"] * 3
    assert isinstance(found.result, ParallelResult)
    assert [result.output for result in found.result.results] == ["answer of one", "echo: two", "echo: three"]


async def test_whoever_looks_at_a_run_kills_what_was_left_when_server_keeper_and_supervisor_were_killed(
    world: World,
) -> None:
    prompt, up, _ = held(world, "one", {"ignore": True}, {"spawn": ["plain", "setsid", "daemon"]})
    async with serving(world) as server:
        running = await server.running("prompt", prompt=prompt, backend="claude")
        world.processes.watch_agent(await up.reached())
        state = json.loads((world.home / "runs" / running["run_id"] / "keeper.json").read_bytes())
        os.kill(server.keeper, signal.SIGKILL)
        os.kill(server.process.pid, signal.SIGKILL)
        os.kill(state["supervisor"]["pid"], signal.SIGKILL)
        async with world.app() as app:
            found = await waited(app, world, running["run_id"])
            await all_ended(world)
    assert isinstance(found.result, PromptResult)
    assert (found.result.status, found.result.error and found.result.error.code) == ("interrupted", "interrupted")


async def test_what_nobody_saw_end_lasted_until_the_last_that_was_seen_of_it(world: World) -> None:
    prompt, up, _ = held(world, "one", {"say": "so far"})
    async with serving(world) as server:
        running = await server.running("chain", steps=[{"prompt": prompt, "backend": "claude"}])
        world.processes.watch_agent(await up.reached())
        async with world.app() as app:
            [child] = app.runs.children(running["run_id"])
            folder = app.runs.path(child)
            state = json.loads((folder / "keeper.json").read_bytes())
            os.kill(server.keeper, signal.SIGSTOP)  # so that it starts no heir
            await server.kill()
            for pid in (server.keeper, state["supervisor"]["pid"]):
                os.kill(pid, signal.SIGKILL)
            last = state["started_at"] + 5
            os.utime(folder / "stdout", (last, last))
            found = await waited(app, world, running["run_id"])
            created_at = app.runs.record(running["run_id"]).created_at
            await all_ended(world)
    assert isinstance(found.result, ChainResult)
    [step] = found.result.results
    assert (found.result.status, step.status, step.duration_ms) == ("interrupted", "interrupted", 5_000)
    assert found.result.total_duration_ms == round((last - created_at) * 1000)


async def test_a_waited_for_parallel_run_dies_whole_and_none_of_it_is_left_running(world: World) -> None:
    prompt, up, _ = held(world, "one", {"spawn": ["daemon"]})
    tasks = [{"prompt": text, "backend": "claude"} for text in (prompt, "two", "three")]
    async with serving(world, limits__max_concurrent=1) as server:
        await server.ask("parallel", tasks=tasks)
        world.processes.watch_agent(await up.reached())
        await server.kill()
        await all_ended(world)
    async with world.app() as app:
        listed = await runs.runs(app, RunsRequest(action="list"), world.caller())
        assert listed.runs is not None
        [run] = listed.runs
        found = await runs.runs(app, RunsRequest(action="status", run_id=run.run_id), world.caller())
    assert run.status == "interrupted"
    assert isinstance(found.result, ParallelResult)
    assert [result.status for result in found.result.results] == ["cancelled", "interrupted", "interrupted"]
