"""However a call or its server ends, no process of a CLI outlives it, and the run can be looked at afterwards."""

import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from fakes.world import Processes
from mcp_fakes.raw_client import RawClient, started
from real.clients import BACKENDS, COMMAND, DEADLINE, Answered, Clinvk, Json, Place, Transport, connected, place
from real.processes import agents, all_ended, of_clinvk, watching
from standin.script import Answer, Script
from standin.server import serving, texts_sent

pytestmark = pytest.mark.anyio

STORY = Answer("Once upon a time.", deltas=2, hold="middle")
SAID = {"claude": "Once upon", "codex": "", "gemini": "Once upon"}  # Codex shows an answer only when it is whole


def working(where: Place) -> Processes:
    """The processes of the runs that are going on, of which there must be some."""
    found = watching(agents(where.home))
    assert found.fds
    return found


@pytest.mark.parametrize("backend", BACKENDS)
async def test_cancel_ends_the_run_and_its_session_goes_on(clinvk: Clinvk, backend: str) -> None:
    clinvk.plays(STORY)
    answers: list[Answered] = []
    run_id = ""
    spoke = anyio.Event()

    def heard(message: str) -> None:
        if "Once upon" in message:
            spoke.set()

    async def ask() -> None:
        answers.append(await clinvk.call("prompt", {"prompt": "Tell me a story.", "backend": backend}, heard))

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await (clinvk.standin.asked() if backend == "codex" else spoke.wait())
            processes = working(clinvk.place)
            [running] = (await clinvk.call("runs", {"action": "list", "status": "running"})).result["runs"]
            run_id = running["run_id"]
            cancelled = await clinvk.call("cancel", {"run_id": run_id})
            assert cancelled.result == {
                "run_id": run_id,
                "status": "cancelled",
                "already_ended": False,
                "error": None,
            }
            await processes.ended()
    [answer] = answers
    result = answer.result
    assert (result["run_id"], result["status"], result["error"]["code"]) == (run_id, "cancelled", "cancelled")
    assert (result["output"], result["partial"], answer.is_error) == (SAID[backend], SAID[backend] != "", True)
    kept = await clinvk.call("runs", {"action": "status", "run_id": run_id})
    assert kept.result["result"] == result

    clinvk.plays(Answer("There was a duck."))
    following = await clinvk.prompt("Go on.", backend, session_id=result["session_id"])
    assert (following.result["status"], following.result["output"]) == ("completed", "There was a duck.")
    assert following.result["session_id"] == result["session_id"]
    [question] = clinvk.standin.questions
    assert "Tell me a story." in texts_sent(question)[0]
    assert texts_sent(question)[-1].strip().endswith("Go on.")


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_client_that_gives_up_takes_its_runs_with_it(transport: Transport, tmp_path: Path) -> None:
    with serving(Script(Answer(hold="before"))) as standin:
        where = place(tmp_path / "place", standin)
        async with connected(where, transport) as clinvk:
            processes = Processes()
            with anyio.fail_after(DEADLINE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(clinvk.everywhere, "Think.")
                    await standin.asked(3)
                    processes = working(where)
                    tasks.cancel_scope.cancel()
                await processes.ended()
            await all_runs_ended(clinvk)
            listed = (await clinvk.call("runs", {"action": "list"})).result["runs"]
    assert sorted((run["backend"], run["status"]) for run in listed) == [(name, "cancelled") for name in BACKENDS]


async def all_runs_ended(clinvk: Clinvk) -> None:
    """Wait until the records say so too: they are written a moment after the last process has ended."""
    for run in (await clinvk.call("runs", {"action": "list"})).result["runs"]:
        await clinvk.call("runs", {"action": "wait", "run_id": run["run_id"], "wait_secs": DEADLINE})


@pytest.fixture
async def raw(tmp_path: Path) -> AsyncGenerator[tuple[RawClient, Place]]:
    """A server that speaks to a raw client on stdio; its model thinks until it is released."""
    with serving(Script(STORY)) as standin:
        where = place(tmp_path / "place", standin)
        async with started(COMMAND, env=where.environ, cwd=where.workdir) as client:
            with anyio.fail_after(DEADLINE):
                await client.initialize()
            yield client, where
        await all_ended(where.home)


async def asked_everywhere(client: RawClient, **arguments: object) -> None:
    for backend in BACKENDS:
        await client.call(backend, "prompt", {"prompt": "Tell me a story.", "backend": backend, **arguments})


async def test_the_agents_of_a_killed_server_end_and_their_runs_say_so(raw: tuple[RawClient, Place]) -> None:
    client, where = raw
    with anyio.fail_after(DEADLINE):
        await asked_everywhere(client)
        await where.standin.asked(3)
        processes = watching(of_clinvk(where.home))
        assert agents(where.home)
        client.process.send_signal(signal.SIGKILL)
        await processes.ended()
        assert of_clinvk(where.home) == []
    async with connected(where) as clinvk:
        runs = (await clinvk.call("runs", {"action": "list"})).result["runs"]
        assert sorted((run["backend"], run["status"]) for run in runs) == [(name, "cancelled") for name in BACKENDS]
        shown = await clinvk.call("runs", {"action": "status", "run_id": runs[0]["run_id"]})
        assert shown.result["result"]["error"]["message"] == "the server went away"


async def test_runs_that_were_handed_out_outlive_their_server_and_are_fetched_by_the_next(
    raw: tuple[RawClient, Place],
) -> None:
    client, where = raw
    with anyio.fail_after(DEADLINE):
        await asked_everywhere(client, wait_secs=0)
        handed: dict[str, Json] = {}
        for backend in BACKENDS:
            handed[backend] = (await client.answer(backend))["result"]["structuredContent"]
        assert [result["status"] for result in handed.values()] == ["running"] * 3
        await where.standin.asked(3)
        await client.close_stdin()
        assert await client.process.wait() == 0
        processes = working(where)
    async with connected(where) as clinvk:
        fetched: dict[str, Json] = {}

        async def fetch(backend: str) -> None:
            waiting = {"action": "wait", "run_id": handed[backend]["run_id"], "wait_secs": DEADLINE}
            fetched[backend] = (await clinvk.call("runs", waiting)).result["result"]

        async with anyio.create_task_group() as tasks:
            for backend in BACKENDS:
                tasks.start_soon(fetch, backend)
            where.standin.release()
        await processes.ended()
        assert {name: (result["status"], result["output"]) for name, result in fetched.items()} == dict.fromkeys(
            BACKENDS, ("completed", "Once upon a time.")
        )
        sessions = (await clinvk.call("sessions", {"action": "list"})).result["sessions"]
        assert {session["id"] for session in sessions} == {result["session_id"] for result in fetched.values()}


async def test_a_server_that_loses_its_client_takes_down_what_was_waited_for(raw: tuple[RawClient, Place]) -> None:
    client, where = raw
    with anyio.fail_after(DEADLINE):
        await asked_everywhere(client)
        await where.standin.asked(3)
        processes = working(where)
        await client.close_stdin()
        assert await client.process.wait() == 0
        await processes.ended()
    async with connected(where) as clinvk:
        runs = (await clinvk.call("runs", {"action": "list"})).result["runs"]
        assert sorted((run["backend"], run["status"]) for run in runs) == [(name, "cancelled") for name in BACKENDS]
