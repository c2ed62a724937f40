"""Calls as tasks (SEP-2663): the same runs under the same ids, fetched later, from whichever server is there."""

import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, Request, RequestParams, Result
from pydantic import Field

from clinvk.errors import ClinvkError
from clinvk.executor import board, questions
from clinvk.mcp_server import approvals
from clinvk.mcp_server.application import server_over
from clinvk.mcp_server.runtasks import RunTasks
from clinvk.mcp_server.tasks import IDENTIFIER
from clinvk.request import PromptRequest
from clinvk.tools import prompt as prompts
from clinvk.tools.caller import Caller, QuestionPending
from fakes import agent
from fakes.world import Fifo, World
from mcp_fakes.http_server import MODERN, REAL_SERVER, messages, serving
from mcp_fakes.in_memory import structured
from mcp_fakes.raw_client import MODERN_META, SOURCE, Message, RawClient, handshake, started
from standin.clis import cli_path
from standin.environment import cli_environment
from standin.script import Answer, Script, Shell
from standin.server import serving as standing_in

pytestmark = pytest.mark.anyio

DEADLINE = 60
COMMAND = (sys.executable, str(Path(__file__).parents[1] / "mcp_fakes" / "launch.py"), "limits.kill_grace_secs=0.1")
POLL_SECS = 0.02
INVALID_PARAMS, HEADER_MISMATCH, MISSING_CAPABILITY, NO_METHOD = -32602, -32020, -32021, -32601
DAY_MS = 86_400_000


def meta(*, asks: bool = True, tasks: bool = True) -> Message:
    capabilities: Message = {"elicitation": {}} if asks else {}
    if tasks:
        capabilities["extensions"] = {IDENTIFIER: {}}
    return MODERN_META | {"io.modelcontextprotocol/clientCapabilities": capabilities}


async def until(reached: Callable[[Message], bool], get: Callable[[], Awaitable[Message]]) -> Message:
    """Poll, as clients of tasks do, until a task is as it should be."""
    while not reached(task := await get()):  # noqa: ASYNC110 - the wire has no other way
        await anyio.sleep(POLL_SECS)
    return task


class TaskClient:
    """A raw client of 2026-07-28 that negotiated tasks."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self._next = 0

    async def ask(self, method: str, *, _meta: Message | None = None, **params: Any) -> Message:
        """The whole answer to a request."""
        self._next += 1
        return await self.raw.request(self._next, method, {**params, "_meta": _meta or meta()})

    async def call(self, tool: str, **arguments: Any) -> Message:
        """The result of a call."""
        result: Message = (await self.ask("tools/call", name=tool, arguments=arguments))["result"]
        return result

    async def get(self, task_id: str) -> Message:
        result: Message = (await self.ask("tasks/get", taskId=task_id))["result"]
        return result

    async def turned(self, task_id: str) -> Message:
        """The task once it works no more."""
        return await until(lambda task: task["status"] != "working", lambda: self.get(task_id))


@asynccontextmanager
async def connected(world: World, *flags: str) -> AsyncGenerator[TaskClient]:
    """A server process; killed at the end if it still runs."""
    with anyio.fail_after(DEADLINE):
        env = world.environ | {"PYTHONPATH": str(SOURCE)}
        async with started((*COMMAND, *flags), env=env, cwd=world.workdir) as raw:
            yield TaskClient(raw)


def held(world: World) -> tuple[Fifo, Fifo, str]:
    """A prompt to an agent that says where it is, then waits to be released, then answers."""
    reached, gate = world.fifo("reached"), world.fifo("gate")
    return (
        reached,
        gate,
        agent.prompt({"say": "so far "}, {"reach": str(reached)}, {"wait": str(gate)}, {"say": "good"}),
    )


async def test_a_call_becomes_a_task_with_the_id_of_its_run(world: World) -> None:
    reached, gate, prompt = held(world)
    async with connected(world) as client:
        task = await client.call("prompt", prompt=prompt, backend="claude")
        assert task.pop("_meta")
        assert task.pop("createdAt") <= task.pop("lastUpdatedAt")
        run_id = task.pop("taskId")
        assert task.pop("statusMessage", "") == ""
        assert task == {"resultType": "task", "status": "working", "ttlMs": 7 * DAY_MS, "pollIntervalMs": 1000}
        await reached.reached()
        (run,) = (await client.call("runs", action="list"))["structuredContent"]["runs"]
        assert (run["run_id"], run["status"]) == (run_id, "running")
        assert (await client.get(run_id))["status"] == "working"
        await gate.release()
        ended = await client.turned(run_id)
        assert ended["status"] == "completed"
        assert ended["result"]["isError"] is False
        assert ended["result"]["structuredContent"]["run_id"] == run_id
        assert ended["result"]["content"][0]["text"].startswith("so far good\n\n[claude")
        assert await client.get(run_id) == ended
        (run,) = (await client.call("runs", action="list"))["structuredContent"]["runs"]
        assert (run["status"], run["unread"]) == ("completed", False)


async def test_a_task_killed_with_its_server_is_answered_for_by_the_next(world: World) -> None:
    reached, gate, prompt = held(world)
    async with connected(world) as client:
        task_id = (await client.call("prompt", prompt=prompt, backend="claude"))["taskId"]
        world.processes.watch_agent(await reached.reached())
        client.raw.process.send_signal(signal.SIGKILL)
        await client.raw.process.wait()
    async with connected(world) as client:
        assert (await client.get(task_id))["status"] == "working"
        await gate.release()
        ended = await client.turned(task_id)
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"]["output"] == "so far good"
    await world.processes.ended()


async def test_the_task_of_a_chain_goes_on_after_its_server_was_killed(world: World) -> None:
    reached, gate, prompt = held(world)
    async with connected(world) as client:
        steps = [{"prompt": prompt, "backend": "claude"}, {"prompt": "<{{previous}}>", "backend": "codex"}]
        task_id = (await client.call("chain", steps=steps))["taskId"]
        await reached.reached()
        client.raw.process.send_signal(signal.SIGKILL)
        await client.raw.process.wait()
    async with connected(world) as client:
        await gate.release()
        ended = await client.turned(task_id)
    outputs = [step["output"] for step in ended["result"]["structuredContent"]["results"]]
    assert outputs == ["so far good", "echo: <so far good>"]


async def test_a_task_is_cancelled_from_another_server_too(world: World) -> None:
    reached, _, prompt = held(world)
    async with connected(world) as client, connected(world) as other:
        task_id = (await client.call("prompt", prompt=prompt, backend="gemini"))["taskId"]
        world.processes.watch_agent(await reached.reached())
        acknowledged = (await other.ask("tasks/cancel", taskId=task_id))["result"]
        assert {name: value for name, value in acknowledged.items() if name != "_meta"} == {"resultType": "complete"}
        ended = await client.turned(task_id)
        assert ended["status"] == "cancelled"
        assert "result" not in ended
        assert task_id in ended["statusMessage"]
        await world.processes.ended()
        again = (await client.ask("tasks/cancel", taskId=task_id))["result"]
        assert again["resultType"] == "complete"


@pytest.mark.parametrize(
    ("allow", "status", "made"), [(True, "completed", ["made"]), (False, "completed", [])], ids=["allowed", "refused"]
)
async def test_a_task_that_asks_requires_input_and_goes_on_with_it(
    world: World, allow: bool, status: str, made: list[str]
) -> None:
    async with connected(world) as client:
        prompt = agent.prompt({"ask": "touch made"}, {"answer": "done"})
        task_id = (await client.call("prompt", prompt=prompt, backend="claude"))["taskId"]
        asking = await client.turned(task_id)
        assert (asking["status"], asking["statusMessage"]) == ("input_required", "Bash: touch made")
        ((name, request),) = asking["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        assert request["params"]["message"].endswith("\n\ntouch made")

        malformed = await client.ask("tasks/update", taskId=task_id, inputResponses={name: {"action": "perhaps"}})
        assert malformed["error"]["code"] == INVALID_PARAMS
        ignored = await client.ask("tasks/update", taskId=task_id, inputResponses={"other": {"action": "accept"}})
        assert ignored["result"]["resultType"] == "complete"
        assert list((await client.get(task_id))["inputRequests"]) == [name]

        answer = {"action": "accept", "content": {"allow": allow}}
        await client.ask("tasks/update", taskId=task_id, inputResponses={name: answer})
        assert (await client.turned(task_id))["status"] == status
        assert [path.name for path in world.workdir.iterdir()] == made


async def test_the_questions_of_a_tasks_parts_are_answered_one_by_one(world: World) -> None:
    async with connected(world) as client:
        tasks = [
            {"prompt": agent.prompt({"ask": f"touch {name}"}), "backend": "claude"} for name in ("first", "second")
        ]
        task_id = (await client.call("parallel", tasks=tasks))["taskId"]
        asking = await until(lambda task: len(task.get("inputRequests", ())) == 2, lambda: client.get(task_id))
        names = {
            request["params"]["message"].rpartition(" ")[2]: name for name, request in asking["inputRequests"].items()
        }
        yes = {"action": "accept", "content": {"allow": True}}
        await client.ask("tasks/update", taskId=task_id, inputResponses={names["second"]: yes})
        assert list((await client.get(task_id))["inputRequests"]) == [names["first"]]
        await client.ask("tasks/update", taskId=task_id, inputResponses={names["first"]: {"action": "decline"}})
        assert (await client.turned(task_id))["status"] == "completed"
    assert [path.name for path in world.workdir.iterdir()] == ["second"]


YES: Message = {"action": "accept", "content": {"allow": True}}


@pytest.mark.parametrize("allow", [True, False], ids=["allowed", "refused"])
async def test_a_question_is_shown_and_answered_at_a_server_that_does_not_drive_the_run(
    world: World, allow: bool
) -> None:
    async with connected(world) as client, connected(world) as other:
        prompt = agent.prompt({"ask": "touch made"}, {"answer": "done"})
        task_id = (await client.call("prompt", prompt=prompt, backend="claude"))["taskId"]
        asking = await client.turned(task_id)
        elsewhere = await other.get(task_id)
        assert elsewhere["statusMessage"] == "Bash: touch made"
        assert elsewhere["inputRequests"] == asking["inputRequests"]
        shown = await other.call("runs", action="status", run_id=task_id)
        assert "waits for a person to allow Bash: touch made" in shown["structuredContent"]["result"]["warnings"][0]

        (name,) = asking["inputRequests"]
        answer = {"action": "accept", "content": {"allow": allow}}
        given = await other.ask("tasks/update", taskId=task_id, inputResponses={name: answer})
        assert given["result"]["resultType"] == "complete"
        ended = await other.turned(task_id)
        assert (ended["status"], ended["result"]["structuredContent"]["output"]) == ("completed", "done")
        again = await other.ask("tasks/update", taskId=task_id, inputResponses={name: YES})
        assert again["result"]["resultType"] == "complete"
    assert [path.name for path in world.workdir.iterdir()] == ["made"] * allow
    assert list((world.home / "runs" / task_id).glob("answer-*")) == []


async def test_the_questions_of_parts_are_answered_at_another_server_each_on_its_own(world: World) -> None:
    async with connected(world) as client, connected(world) as other:
        tasks = [
            {"prompt": agent.prompt({"ask": f"touch {name}"}), "backend": "claude"} for name in ("first", "second")
        ]
        task_id = (await client.call("parallel", tasks=tasks))["taskId"]
        asking = await until(lambda task: len(task.get("inputRequests", ())) == 2, lambda: other.get(task_id))
        names = {
            request["params"]["message"].rpartition(" ")[2]: name for name, request in asking["inputRequests"].items()
        }
        await other.ask("tasks/update", taskId=task_id, inputResponses={names["second"]: YES})
        assert list((await client.get(task_id))["inputRequests"]) == [names["first"]]
        both = {names["first"]: {"action": "decline"}, names["second"]: YES}  # as clients that collect answers do
        await other.ask("tasks/update", taskId=task_id, inputResponses=both)
        assert (await other.turned(task_id))["status"] == "completed"
    assert [path.name for path in world.workdir.iterdir()] == ["second"]


async def test_an_answer_to_an_agent_whose_server_was_killed_is_an_error(world: World) -> None:
    reached, gate = world.fifo("reached"), world.fifo("gate")
    steps: list[agent.Step] = [{"ask": "touch made"}, {"reach": str(reached)}, {"wait": str(gate)}]
    async with connected(world) as client, connected(world) as other:
        task_id = (await client.call("prompt", prompt=agent.prompt(*steps), backend="claude"))["taskId"]
        (name,) = (await client.turned(task_id))["inputRequests"]
        client.raw.process.send_signal(signal.SIGKILL)
        await client.raw.process.wait()
        assert (await other.get(task_id))["status"] == "working"  # with its server the agent lost whom it asked
        late = await other.ask("tasks/update", taskId=task_id, inputResponses={name: YES})
        assert late["error"]["code"] == INVALID_PARAMS
        assert "not open any more" in late["error"]["message"]
        world.processes.watch_agent(await reached.reached())
        await gate.release()
        ended = await other.turned(task_id)
    assert ended["status"] == "completed"
    assert "permission denied: Bash: touch made" in ended["result"]["structuredContent"]["warnings"]
    assert list(world.workdir.iterdir()) == []
    await world.processes.ended()


async def test_an_answer_that_the_driving_server_does_not_take_is_an_error_and_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "TAKE_SECS", 0.1)
    async with connected(world) as client, world.app() as app:
        prompt = agent.prompt({"ask": "touch made"}, {"answer": "done"})
        task_id = (await client.call("prompt", prompt=prompt, backend="claude"))["taskId"]
        (name,) = (await client.turned(task_id))["inputRequests"]
        other = RunTasks(app)
        client.raw.process.send_signal(signal.SIGSTOP)
        with pytest.raises(ClinvkError, match="took no answer") as refused:
            await other.answer(task_id, {name: YES})
        assert refused.value.failure.code == "timeout"
        client.raw.process.send_signal(signal.SIGCONT)
        assert list((await client.get(task_id))["inputRequests"]) == [name]
        assert list(world.workdir.iterdir()) == []
        monkeypatch.undo()
        assert await other.answer(task_id, {name: YES})
        assert (await client.turned(task_id))["status"] == "completed"
    assert [path.name for path in world.workdir.iterdir()] == ["made"]


async def test_an_answer_that_comes_too_late_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECS", 0.2)
    with anyio.fail_after(DEADLINE):
        async with world.app() as app:
            caller = Caller(client="test", cwd=world.workdir, asks_later=True)
            request = PromptRequest(prompt=agent.prompt({"ask": "touch made"}), backend="claude")
            with pytest.raises(QuestionPending) as asked:
                await prompts.prompt(app, request, caller)
            question = asked.value.question
            if question.run_id in app.executor.live:
                await app.executor.live[question.run_id].done.wait()
            with pytest.raises(ClinvkError, match="not open any more"):
                await RunTasks(app).answer(question.run_id, {approvals.key(question): YES})
    assert list(world.workdir.iterdir()) == []


async def test_a_client_without_forms_is_not_asked_in_a_task(world: World) -> None:
    async with connected(world) as client:
        arguments = {"prompt": agent.prompt({"ask": "touch made"}), "backend": "claude"}
        begun = await client.ask("tools/call", name="prompt", arguments=arguments, _meta=meta(asks=False))
        ended = await client.turned(begun["result"]["taskId"])
    [warning] = ended["result"]["structuredContent"]["warnings"]
    assert warning.startswith("permission denied: Bash: touch made\nto allow what was denied: ")


async def test_a_run_that_failed_is_a_completed_task_with_the_failure_as_its_result(world: World) -> None:
    async with connected(world) as client:
        prompt = agent.prompt({"fail": "no such model"})
        ended = await client.turned((await client.call("prompt", prompt=prompt, backend="codex"))["taskId"])
    assert ended["status"] == "completed"
    assert ended["result"]["isError"] is True
    assert ended["result"]["structuredContent"]["status"] == "failed"


async def test_what_is_there_at_once_is_no_task(world: World) -> None:
    async with connected(world) as client:
        refused = await client.call("prompt", prompt="hi", backend="nobody")
        assert (refused["resultType"], refused["isError"]) == ("complete", True)
        assert refused["structuredContent"]["error"]["code"] == "backend_unknown"
        planned = await client.call("prompt", prompt="hi", backend="claude", dry_run=True)
        assert planned["structuredContent"]["dry_run"] is True
        waited = await client.call("prompt", prompt="hi", backend="codex", wait_secs=DEADLINE)
        assert waited["structuredContent"]["output"] == "echo: hi"
        listed = await client.call("runs", action="list", wait_secs=0)
        assert listed["resultType"] == "complete"


async def test_a_task_that_is_none_is_refused(world: World) -> None:
    async with connected(world) as client:
        codes = {
            (method, task_id): (await client.ask(method, taskId=task_id, inputResponses={}))["error"]["code"]
            for method in ("tasks/get", "tasks/cancel", "tasks/update")
            for task_id in ("0123456789abcdef", "", "../sessions", "x" * 5000, "*")
        }
    assert codes == dict.fromkeys(codes, INVALID_PARAMS)


async def test_the_beginning_of_an_id_is_no_task(world: World) -> None:
    async with connected(world) as client:
        await client.call("prompt", prompt="hi", backend="codex", wait_secs=DEADLINE)
        (run,) = (await client.call("runs", action="list"))["structuredContent"]["runs"]
        assert (await client.get(run["run_id"]))["status"] == "completed"
        assert (await client.ask("tasks/get", taskId=run["run_id"][:8]))["error"]["code"] == INVALID_PARAMS


async def test_a_task_whose_result_was_damaged_has_failed(world: World) -> None:
    async with connected(world) as client:
        await client.call("prompt", prompt="hi", backend="codex", wait_secs=DEADLINE)
        (folder,) = (world.home / "runs").iterdir()
    (folder / "result.json").write_text('{"status": "completed", "run_id": 7}', encoding="utf-8")
    async with connected(world) as client:
        task = await client.get(folder.name)
    assert task["status"] == "failed"
    assert "damaged" in task["error"]["message"]


async def test_a_task_that_another_process_removed_is_none(world: World) -> None:
    async with connected(world) as client:
        result = await client.call("prompt", prompt="hi", backend="codex", wait_secs=DEADLINE)
        task_id = result["structuredContent"]["run_id"]
        assert (await client.get(task_id))["status"] == "completed"
        async with world.app() as other:
            other.runs.delete(task_id)
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            answer = await client.ask(method, taskId=task_id, inputResponses={})
            assert answer["error"]["code"] == INVALID_PARAMS


async def test_runs_that_are_kept_for_ever_make_tasks_without_an_end(world: World) -> None:
    async with connected(world, "limits.run_retention_days=0", "limits.run_retention_bytes=0") as client:
        task = await client.call("prompt", prompt="hi", backend="codex")
        assert task["ttlMs"] is None
        await client.turned(task["taskId"])


async def test_who_did_not_negotiate_tasks_gets_none(world: World) -> None:
    async with connected(world) as client:
        plain = meta(tasks=False)
        arguments = {"prompt": "hi", "backend": "codex"}
        result = (await client.ask("tools/call", name="prompt", arguments=arguments, _meta=plain))["result"]
        assert (result["resultType"], result["structuredContent"]["output"]) == ("complete", "echo: hi")
        run_id = result["structuredContent"]["run_id"]
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            error = (await client.ask(method, taskId=run_id, inputResponses={}, _meta=plain))["error"]
            assert error["code"] == MISSING_CAPABILITY
            assert error["data"] == {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}


async def test_a_client_of_2025_gets_results_whatever_it_declares(world: World) -> None:
    async with connected(world) as client:
        params: Message = {**handshake(), "capabilities": {"extensions": {IDENTIFIER: {}}}}
        await client.raw.request("init", "initialize", params)
        await client.raw.send({"method": "notifications/initialized"})
        await client.raw.call(1, "prompt", {"prompt": "hi", "backend": "codex"})
        result = (await client.raw.answer(1))["result"]
        assert result["structuredContent"]["output"] == "echo: hi"
        run_id = result["structuredContent"]["run_id"]
        assert (await client.raw.request(2, "tasks/get", {"taskId": run_id}))["error"]["code"] == NO_METHOD


async def test_over_http_the_header_must_name_the_task(world: World) -> None:
    env = world.environ | {"PYTHONPATH": str(SOURCE)}
    with anyio.fail_after(DEADLINE):
        async with serving(REAL_SERVER, env=env) as server, httpx2.AsyncClient() as http:

            async def post(method: str, header: str | None, **params: Any) -> tuple[int, Message]:
                headers = {**MODERN, "Mcp-Method": method} | ({"Mcp-Name": header} if header is not None else {})
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta()}}
                response = await http.post(server.url, json=message, headers=headers)
                return response.status_code, messages(response)[-1]

            async def get() -> Message:
                result: Message = (await post("tasks/get", task_id, taskId=task_id))[1]["result"]
                return result

            arguments = {"prompt": "hi", "backend": "codex"}
            _, begun = await post("tools/call", "prompt", name="prompt", arguments=arguments)
            task_id = begun["result"]["taskId"]
            assert (await get())["taskId"] == task_id
            for method in ("tasks/get", "tasks/cancel", "tasks/update"):
                for header in (None, "another", ""):
                    status, refused = await post(method, header, taskId=task_id, inputResponses={})
                    assert (status, refused["error"]["code"]) == (400, HEADER_MISMATCH)
            await until(lambda task: task["status"] == "completed", get)


class Created(Result):
    """A call's answer that is a task."""

    result_type: Literal["task"] = "task"
    task_id: str = Field(alias="taskId")


class TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class Get(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams


class Detailed(Result):
    status: str
    result: CallToolResult | None = None


class ClientTasks(ClientExtension):
    """Waits for tasks, as a client of the SDK would."""

    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.created: list[str] = []

    def claims(self) -> list[ResultClaim[Created]]:
        return [ResultClaim(result_type="task", model=Created, resolve=self._resolve)]

    async def _resolve(self, task: Created, ctx: ClaimContext) -> CallToolResult:
        self.created.append(task.task_id)
        while True:
            now = await ctx.session.send_request(Get(params=TaskParams(taskId=task.task_id)), Detailed)
            if now.result is not None:
                return now.result
            assert now.status == "working"
            await anyio.sleep(POLL_SECS)


async def test_the_sdks_client_gets_results_of_every_kind_through_tasks(world: World) -> None:
    tasks = ClientTasks()
    with anyio.fail_after(DEADLINE):
        async with world.app() as app:
            server, _ = server_over(app)
            async with Client(server, extensions=[tasks]) as client:
                one = {"prompt": "hi", "backend": "codex"}
                results = [
                    await client.call_tool("prompt", one),
                    await client.call_tool("parallel", {"tasks": [one, one]}),
                    await client.call_tool("chain", {"steps": [one]}),
                    await client.call_tool("compare", {"prompt": "hi", "backends": ["codex", "gemini"]}),
                ]
    assert [structured(result)["status"] for result in results] == ["completed"] * 4
    assert [structured(result)["run_id"] for result in results] == tasks.created


async def test_the_real_claude_asks_through_a_task_and_refuses_itself_when_the_server_is_killed(world: World) -> None:
    cli_path("claude")
    calls = (Shell("touch allowed"),), (Shell("touch orphaned"),)
    script = Script(queue=[Answer("One.", calls=calls[0]), Answer("Two.", calls=calls[1]), Answer("Done.")])
    with standing_in(script) as model:
        env = cli_environment("claude", world.root / "user", model.url)
        real = World(world.root, world.home, world.bin, world.workdir, env | {"CLINVK_HOME": str(world.home)})
        async with connected(real) as client:
            task_id = (await client.call("prompt", prompt="please", backend="claude"))["taskId"]
            ((name, _),) = (await client.turned(task_id))["inputRequests"].items()
            yes = {"action": "accept", "content": {"allow": True}}
            await client.ask("tasks/update", taskId=task_id, inputResponses={name: yes})
            second = await client.turned(task_id)
            assert second["statusMessage"] == "Bash: touch orphaned"
            client.raw.process.send_signal(signal.SIGKILL)
            await client.raw.process.wait()
        async with connected(real) as client:
            ended = await client.turned(task_id)
    assert ended["status"] == "completed"
    assert "permission denied: Bash: touch orphaned" in ended["result"]["structuredContent"]["warnings"]
    assert [path.name for path in world.workdir.iterdir()] == ["allowed"]
