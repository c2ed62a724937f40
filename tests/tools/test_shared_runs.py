"""The same request at several processes at once: one run, which lives as long as one of those who asked waits."""

import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import pytest

from clinvk.cli import exits
from clinvk.executor import marks
from clinvk.executor.questions import Question
from clinvk.executor.runs import RunStore
from clinvk.request import CancelRequest, ChainRequest, PromptRequest, RunsRequest
from clinvk.response import ChainResult, PromptResult, RunsResult
from clinvk.tools import chain, prompt, runs
from clinvk.tools.app import App
from clinvk.tools.asking import decide
from clinvk.tools.caller import Caller, QuestionPending
from clinvk.tools.company import waiting_together
from clinvk_command import COMMAND
from fakes import agent
from fakes.world import PATIENCE_SECS, Fifo, World
from leaks.server import Server, serving

pytestmark = pytest.mark.anyio

RACES = 12
LOOK_SECS = 0.01


async def ask(app: App, world: World, text: str, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, "backend": "claude", **options})
    result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


async def marked(app: App, mark: Any) -> None:
    """Wait until a run has a mark."""
    with anyio.fail_after(PATIENCE_SECS):
        while not any(app.runs.marked(run_id, mark) for run_id in app.runs.ids()):  # noqa: ASYNC110 - a file
            await anyio.sleep(LOOK_SECS)


@dataclass
class Asker:
    """Somebody who waits for a run, and what he is answered."""

    leaving: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    answers: list[PromptResult] = field(default_factory=list[PromptResult])

    async def wait(self, app: App, world: World, text: str) -> None:
        with self.leaving:
            self.answers.append(await ask(app, world, text))


async def test_what_another_process_waits_for_is_waited_for_here_too(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "once"})
    one, two = Asker(), Asker()
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        await up.reached()
        tasks.start_soon(two.wait, there, world, text)
        await marked(there, "handed")
        await go.release()
    [first], [second] = one.answers, two.answers
    assert (first.output, first.warnings) == ("once", [])
    assert (second.output, second.run_id) == ("once", first.run_id)
    assert any("fresh=true" in warning for warning in second.warnings)
    assert len(world.calls()) == 1


async def test_who_asked_first_may_leave_when_another_process_waits_too(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "once"})
    one, two = Asker(), Asker()
    async with world.app() as there, anyio.create_task_group() as tasks:
        async with world.app() as here:
            tasks.start_soon(one.wait, here, world, text)
            world.processes.watch_agent(await up.reached())
            tasks.start_soon(two.wait, there, world, text)
            await marked(there, "handed")
            one.leaving.cancel()
        await go.release()
    await world.processes.ended()
    assert one.answers == []
    assert [(result.status, result.output) for result in two.answers] == [("completed", "once")]
    assert len(world.calls()) == 1


@pytest.mark.parametrize("first", ["who began it", "who joined"])
async def test_a_shared_run_is_stopped_with_the_last_who_waits(world: World, first: str) -> None:
    up = world.fifo("up")
    text = agent.prompt({"reach": str(up)}, {"hang": True})
    one, two = Asker(), Asker()
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        world.processes.watch_agent(await up.reached())
        tasks.start_soon(two.wait, there, world, text)
        await marked(there, "handed")
        leaving, staying = (one, two) if first == "who began it" else (two, one)
        leaving.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        assert [here.runs.marked(run_id, "cancel") for run_id in here.runs.ids()] == [False]
        staying.leaving.cancel()
    await world.processes.ended()
    assert (one.answers, two.answers) == ([], [])


async def test_who_lends_a_run_counts_before_anybody_else_may_leave_it_to_him(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "once"})
    one = Asker()
    verdicts: list[bool] = []
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:

        def secure(_runs: RunStore, run_id: str) -> None:
            """Leave as soon as the run is handed out."""
            assert there.runs.marked(run_id, "handed")
            with waiting_together(there, run_id) as is_last:
                verdicts.append(is_last())

        monkeypatch.setattr(RunStore, "secure", secure)
        tasks.start_soon(one.wait, here, world, text)
        await up.reached()
        there.runs.mark(there.runs.ids()[0], "shared")
        await marked(there, "handed")
        await go.release()
    assert ([answer.output for answer in one.answers], verdicts) == (["once"], [False])


async def test_a_shared_run_goes_on_once_somebody_was_told_its_id(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "kept"})
    one = Asker()
    told: list[PromptResult] = []
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        world.processes.watch_agent(await up.reached())
        told.append(await ask(there, world, text, wait_secs=0))
        one.leaving.cancel()
        await go.release()
        told.append(await ask(there, world, text))
    assert [(result.status, result.output) for result in told] == [("running", ""), ("completed", "kept")]
    assert told[0].run_id == told[1].run_id
    await world.processes.ended()


async def test_a_run_that_is_stopped_with_who_asked_first_is_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "LOOK_SECS", 2 * PATIENCE_SECS)  # the driver does not see in time that it is shared
    up = world.fifo("up")
    text = agent.prompt({"reach": str(up)}, {"hang": True})
    one, two = Asker(), Asker()
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        world.processes.watch_agent(await up.reached())
        tasks.start_soon(two.wait, there, world, text)
        await marked(there, "shared")
        one.leaving.cancel()
        world.processes.watch_agent(await up.reached())
        two.leaving.cancel()
    await world.processes.ended()
    assert (one.answers, two.answers) == ([], [])
    assert len(world.calls()) == 2


async def test_a_run_that_is_being_cancelled_is_not_given_to_who_asks_again(world: World) -> None:
    up, again = world.fifo("up"), world.fifo("again")
    agent.decide(world.bin, "claude", {"reach": str(up)}, {"hang": True})
    one, two = Asker(), Asker()
    run_id = ""
    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, "x")
        await up.reached()
        [run_id] = here.runs.ids()
        there.runs.mark(run_id, "cancel")
        agent.decide(world.bin, "claude", {"reach": str(again)}, {"answer": "anew"})
        tasks.start_soon(two.wait, there, world, "x")
        await again.reached()
        await runs.cancel(there, CancelRequest(run_id=run_id))
    assert [(answer.output, answer.run_id != run_id) for answer in two.answers] == [("anew", True)]
    assert [answer.status for answer in one.answers] == ["cancelled"]


async def test_a_chain_is_shared_as_a_whole(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    first = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "one"})
    steps = [{"prompt": text, "backend": "claude"} for text in (first, "two")]
    answers: list[ChainResult] = []

    async def wait(app: App) -> None:
        result = await chain.chain(app, ChainRequest.model_validate({"steps": steps}), world.caller())
        assert isinstance(result, ChainResult)
        answers.append(result)

    async with world.app() as one, world.app() as two, anyio.create_task_group() as tasks:
        tasks.start_soon(wait, one)
        await up.reached()
        tasks.start_soon(wait, two)
        await marked(two, "handed")
        await go.release()
    assert [(answer.status, answer.completed_steps) for answer in answers] == [("completed", 2)] * 2
    assert answers[0].run_id == answers[1].run_id
    assert len(world.calls()) == 2


async def answers_of(
    servers: list[Server], ask_one: Callable[[Server], Coroutine[Any, Any, None]]
) -> list[dict[str, Any]]:
    """What servers answer to the same request of the same moment."""
    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(ask_one, server)
    return [(await server.told())["result"] for server in servers]


@pytest.mark.parametrize("wait_secs", [0, PATIENCE_SECS], ids=["handed out", "waited for"])
async def test_processes_that_ask_the_same_in_the_same_moment_share_one_run(world: World, wait_secs: float) -> None:
    async with serving(world) as one, serving(world) as two, serving(world) as three:
        servers = [one, two, three]
        for number in range(RACES):
            go = world.fifo(f"go-{number}")
            text = agent.prompt({"wait": str(go)}, {"answer": str(number)})
            told: list[dict[str, Any]] = []

            async def ask_one(server: Server, text: str = text) -> None:
                await server.ask("prompt", prompt=text, backend="claude", wait_secs=wait_secs)

            async with anyio.create_task_group() as tasks:
                if wait_secs:
                    tasks.start_soon(go.release)
                told.extend(await answers_of(servers, ask_one))
            assert len({result["run_id"] for result in told}) == 1, told
            if not wait_secs:
                await go.release()
    assert len(world.calls()) == RACES


async def test_a_shared_run_outlives_the_killed_server_that_began_it(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "kept"})
    told: dict[str, Any] = {}
    async with world.app() as app, serving(world) as one, serving(world) as two:
        await one.ask("prompt", prompt=text, backend="claude")
        world.processes.watch_agent(await up.reached())
        await two.ask("prompt", prompt=text, backend="claude")
        await marked(app, "handed")
        await one.kill()
        await go.release()
        told = (await two.told())["result"]
    await world.processes.ended()
    assert (told["status"], told["output"]) == ("completed", "kept")
    assert len(world.calls()) == 1


async def follow(app: App, world: World, run_id: str, answers: list[RunsResult], wait_secs: float = 60) -> None:
    """Wait for a run by its id, as somebody who saw it in the list."""
    request = RunsRequest(action="wait", run_id=run_id, wait_secs=wait_secs)
    answers.append(await runs.runs(app, request, world.caller(client="follower")))


@dataclass
class Follower:
    """Somebody who waits for a run by its id, and what he is answered."""

    leaving: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    answers: list[RunsResult] = field(default_factory=list[RunsResult])

    async def wait(self, app: App, world: World, run_id: str) -> None:
        with self.leaving:
            await follow(app, world, run_id, self.answers)


async def counted(driver: App, follower: App) -> None:
    """Wait until somebody who waits by id counts."""
    if driver is follower:
        [live] = [each for each in driver.executor.live.values() if each.record.parent_id is None]
        with anyio.fail_after(PATIENCE_SECS):
            while live.waiters < 2:  # noqa: ASYNC110 - a number
                await anyio.sleep(LOOK_SECS)
    else:
        await marked(follower, "handed")


PLACES = pytest.mark.parametrize("place", ["this process", "another process"])


@asynccontextmanager
async def asked_by(
    one: Asker, world: World, text: str, up: Fifo, place: str
) -> AsyncGenerator[tuple[App, App, str, anyio.abc.TaskGroup]]:
    """Somebody has asked and waits, and the agent has come up: the driver, where others wait, the run, who else acts.

    At the end all of them are waited for.
    """
    async with world.app() as here, world.app() as elsewhere, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        world.processes.watch_agent(await up.reached())
        yield here, here if place == "this process" else elsewhere, here.runs.ids()[0], tasks


@PLACES
async def test_who_asked_may_leave_when_somebody_waits_by_the_id(world: World, place: str) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "once"})
    one, two = Asker(), Follower()
    async with asked_by(one, world, text, up, place) as (here, there, run_id, tasks):
        tasks.start_soon(two.wait, there, world, run_id)
        await counted(here, there)
        one.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        await go.release()
    await world.processes.ended()
    [answer] = two.answers
    assert isinstance(answer.result, PromptResult)
    assert (one.answers, answer.result.status, answer.result.output) == ([], "completed", "once")


@PLACES
async def test_who_waits_by_the_id_stops_nothing_by_leaving(world: World, place: str) -> None:
    up = world.fifo("up")
    text = agent.prompt({"reach": str(up)}, {"hang": True})
    one, two = Asker(), Follower()
    async with asked_by(one, world, text, up, place) as (here, there, run_id, tasks):
        tasks.start_soon(two.wait, there, world, run_id)
        await counted(here, there)
        two.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        assert (here.runs.marked(run_id, "cancel"), here.runs.state(run_id).status) == (False, "running")
        one.leaving.cancel()  # nobody else is left, and nobody was told to come back
    await world.processes.ended()
    assert (one.answers, two.answers) == ([], [])


@PLACES
async def test_a_run_goes_on_when_the_last_who_leaves_knows_its_id(world: World, place: str) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "kept"})
    one, two = Asker(), Follower()
    answers: list[RunsResult] = []
    async with asked_by(one, world, text, up, place) as (here, there, run_id, tasks):
        tasks.start_soon(two.wait, there, world, run_id)
        await counted(here, there)
        one.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        two.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        await go.release()
        await follow(there, world, run_id, answers)
    await world.processes.ended()
    [answer] = answers
    assert isinstance(answer.result, PromptResult)
    assert (answer.result.status, answer.result.output) == ("completed", "kept")


@PLACES
async def test_a_run_goes_on_when_a_wait_by_the_id_was_over_before(world: World, place: str) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "kept"})
    one = Asker()
    answers: list[RunsResult] = []
    async with asked_by(one, world, text, up, place) as (_, there, run_id, _tasks):
        await follow(there, world, run_id, answers, wait_secs=0)
        await marked(there, "handed")
        one.leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        await go.release()
        await follow(there, world, run_id, answers)
    await world.processes.ended()
    assert [answer.run.status for answer in answers if answer.run] == ["running", "completed"]


@PLACES
async def test_a_run_goes_on_for_who_waits_by_the_id_and_has_a_question_to_answer_first(
    world: World, place: str
) -> None:
    asked, leaving = anyio.Event(), anyio.CancelScope()
    question: Question | None = None
    answers: list[RunsResult] = []
    text = agent.prompt({"ask": "touch made"}, {"answer": "over"})

    async def think(_question: Question) -> tuple[bool, str]:
        asked.set()
        await anyio.sleep_forever()
        return False, ""

    async def wait(app: App) -> None:
        with leaving:
            caller = Caller(client="test", cwd=world.workdir, ask=think)
            await prompt.prompt(app, PromptRequest(prompt=text, backend="claude"), caller)

    async with world.app() as here, world.app() as elsewhere, anyio.create_task_group() as tasks:
        there = here if place == "this process" else elsewhere
        tasks.start_soon(wait, here)
        with anyio.fail_after(PATIENCE_SECS):
            await asked.wait()
        request = RunsRequest(action="wait", run_id=here.runs.ids()[0])
        try:
            await runs.runs(there, request, Caller(client="follower", cwd=world.workdir, asks_later=True))
        except QuestionPending as pending:
            question = pending.question
        assert question is not None
        await marked(there, "handed")
        leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        await decide(there, question, allowed=True, reason="so decided")
        await follow(there, world, here.runs.ids()[0], answers)
    [answer] = answers
    assert isinstance(answer.result, PromptResult)
    assert (answer.result.status, answer.result.output) == ("completed", "over")


async def test_who_waits_for_a_part_counts_for_the_whole(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    steps = [{"prompt": agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "one"}), "backend": "claude"}]
    two = Follower()
    leaving = anyio.CancelScope()
    part = ""

    async def wait(app: App) -> None:
        with leaving:
            await chain.chain(app, ChainRequest.model_validate({"steps": steps}), world.caller())

    async with world.app() as here, world.app() as there, anyio.create_task_group() as tasks:
        tasks.start_soon(wait, here)
        world.processes.watch_agent(await up.reached())
        [part] = [run_id for run_id in here.runs.ids() if here.runs.record(run_id).parent_id is not None]
        tasks.start_soon(two.wait, there, world, part)
        await marked(there, "handed")
        leaving.cancel()
        await anyio.wait_all_tasks_blocked()
        await go.release()
    await world.processes.ended()
    [answer] = two.answers
    assert answer.run is not None
    assert (answer.run.run_id, answer.run.status) == (part, "completed")


async def test_a_wait_at_a_terminal_that_is_interrupted_leaves_the_run_to_who_asked(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"reach": str(up)}, {"wait": str(go)}, {"answer": "once"})
    one = Asker()
    async with world.app() as here, anyio.create_task_group() as tasks:
        tasks.start_soon(one.wait, here, world, text)
        world.processes.watch_agent(await up.reached())
        [run_id] = here.runs.ids()
        words = [*COMMAND, "runs", "wait", run_id]
        async with await anyio.open_process(words, env=world.environ, cwd=world.workdir) as command:
            await marked(here, "handed")
            command.send_signal(signal.SIGINT)
            with anyio.fail_after(PATIENCE_SECS):
                assert await command.wait() == exits.CANCELLED
        await go.release()
    await world.processes.ended()
    assert [(result.status, result.output) for result in one.answers] == [("completed", "once")]
