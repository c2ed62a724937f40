"""Agents that ask for permission, and the person behind the client who decides; in both eras of the protocol."""

import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import ElicitRequestFormParams, ElicitResult, ErrorData

from clinvk.executor import questions
from clinvk.executor.questions import Question
from clinvk.mcp_server.application import server_over
from clinvk.mcp_server.approvals import visible
from clinvk.request import PromptRequest, RunsRequest
from clinvk.response import PromptResult
from clinvk.tools import asking, runs
from clinvk.tools import prompt as prompts
from clinvk.tools.caller import Caller
from fakes import agent
from fakes.world import World
from mcp_fakes.http_server import REAL_SERVER, serving
from mcp_fakes.in_memory import MODES, Mode, structured, text_of
from mcp_fakes.raw_client import MODERN_META, SOURCE, Message, RawClient, started
from standin.clis import cli_path
from standin.environment import cli_environment
from standin.script import Answer, Script, Shell, WriteFile
from standin.server import serving as standing_in

pytestmark = pytest.mark.anyio

DEADLINE = 60
LAUNCH = str(Path(__file__).parents[1] / "mcp_fakes" / "launch.py")
YES = ElicitResult(action="accept", content={"allow": True})
NO = ElicitResult(action="accept", content={"allow": False})
Reply = ElicitResult | ErrorData


class Person:
    """Answers what they are asked: these replies in turn, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self._replies: Sequence[Reply] = replies
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> Reply:
        assert isinstance(params, ElicitRequestFormParams)
        assert params.requested_schema["required"] == ["allow"]
        self.asked.append(params.message)
        return self._replies[min(len(self.asked), len(self._replies)) - 1]


@asynccontextmanager
async def connected(world: World, mode: Mode, person: Person | None = None) -> AsyncGenerator[Client]:
    """A client in memory on clinvk with fake agents."""
    with anyio.fail_after(DEADLINE):
        async with world.app() as app:
            server, _ = server_over(app)
            async with Client(server, mode=mode, elicitation_callback=person) as client:
                yield client


def asks(*commands: str, **more: Any) -> dict[str, Any]:
    """Arguments of a prompt to an agent that asks for these commands."""
    return {"prompt": agent.prompt(*[{"ask": command} for command in commands]), "backend": "claude", **more}


def files(world: World) -> list[str]:
    return sorted(path.name for path in world.workdir.iterdir())


@pytest.mark.parametrize("mode", MODES)
async def test_what_the_person_allows_is_done(world: World, mode: Mode) -> None:
    person = Person(YES)
    async with connected(world, mode, person) as client:
        result = await client.call_tool("prompt", asks("touch made", workdir=str(world.workdir)))
    assert structured(result)["status"] == "completed"
    assert structured(result)["warnings"] == []
    assert files(world) == ["made"]
    (message,) = person.asked
    assert message == f"claude asks to use Bash (run {structured(result)['run_id']}):\n\ntouch made"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (NO, "the user refused it"),
        (ElicitResult(action="accept", content={}), "the user refused it"),
        (ElicitResult(action="accept", content={"allow": "true"}), "the user refused it"),
        (ElicitResult(action="decline"), "the user refused it"),
        (ElicitResult(action="cancel"), "the user dismissed the question"),
    ],
    ids=["no", "nothing", "text", "decline", "cancel"],
)
async def test_what_the_person_does_not_allow_is_not_done(world: World, mode: Mode, reply: Reply, told: str) -> None:
    async with connected(world, mode, Person(reply)) as client:
        result = await client.call_tool("prompt", asks("touch made", workdir=str(world.workdir)))
    assert structured(result)["output"] == f"denied: {told}"
    assert structured(result)["warnings"] == ["permission denied: Bash: touch made"]
    assert files(world) == []


async def test_a_client_that_fails_to_ask_has_not_allowed(world: World) -> None:
    async with connected(world, "legacy", Person(ErrorData(code=-32603, message="the screen is locked"))) as client:
        result = await client.call_tool("prompt", asks("touch made", workdir=str(world.workdir)))
    assert "the screen is locked" in structured(result)["output"]
    assert files(world) == []


@pytest.mark.parametrize("mode", MODES)
async def test_each_question_is_asked_and_decided_on_its_own(world: World, mode: Mode) -> None:
    person = Person(YES, NO, YES)
    async with connected(world, mode, person) as client:
        await client.call_tool("prompt", asks("touch one", "touch two", "touch three", workdir=str(world.workdir)))
    assert [message.rpartition("\n")[2] for message in person.asked] == ["touch one", "touch two", "touch three"]
    assert files(world) == ["one", "three"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", ["parallel", "chain", "compare"])
async def test_the_parts_of_a_run_ask_through_its_call(world: World, mode: Mode, tool: str) -> None:
    where = {"workdir": str(world.workdir)}
    parts = [asks("touch first", **where), asks("touch second", **where)]
    arguments = {
        "parallel": {"tasks": parts},
        "chain": {"steps": parts},
        "compare": asks("touch first; touch second", **where) | {"backends": ["claude"]},
    }[tool]
    arguments = {name: value for name, value in arguments.items() if (tool, name) != ("compare", "backend")}
    person = Person(YES)
    async with connected(world, mode, person) as client:
        result = await client.call_tool(tool, arguments)
        runs = structured(await client.call_tool("runs", {"action": "list"}))
    assert structured(result)["status"] == "completed"
    assert files(world) == ["first", "second"]
    assert len(person.asked) == (1 if tool == "compare" else 2)
    assert [run["run_id"] for run in runs["runs"]] == [structured(result)["run_id"]]


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_did_not_wait_says_what_the_run_waits_for_and_runs_asks(world: World, mode: Mode) -> None:
    asked, held = world.fifo("asked"), world.fifo("held")
    prompt = agent.prompt({"reach": str(asked)}, {"wait": str(held)}, {"ask": "touch made"})
    person = Person(YES)
    async with connected(world, mode, person) as client:
        arguments = {"prompt": prompt, "backend": "claude", "workdir": str(world.workdir), "wait_secs": 0}
        begun = structured(await client.call_tool("prompt", arguments))
        assert begun["status"] == "running"
        await asked.reached()
        await held.release()
        status: dict[str, Any] = {"warnings": []}
        while not status["warnings"]:
            status = structured(await client.call_tool("runs", {"action": "status", "run_id": begun["run_id"]}))[
                "result"
            ]
        assert status["warnings"][0].startswith("waits for a person to allow Bash: touch made; ")
        assert person.asked == []
        ended = structured(await client.call_tool("runs", {"action": "wait", "run_id": begun["run_id"]}))
    assert ended["run"]["status"] == "completed"
    assert len(person.asked) == 1
    assert files(world) == ["made"]


@pytest.mark.parametrize("mode", MODES)
async def test_who_waits_for_a_run_of_another_server_is_asked_what_it_asks(world: World, mode: Mode) -> None:
    person = Person(YES, NO)
    async with world.app() as app, connected(world, mode, person) as client:
        caller = Caller(client="other", cwd=world.workdir, asks_later=True)
        arguments = asks("touch allowed", "touch refused", wait_secs=0)
        begun = await prompts.prompt(app, PromptRequest.model_validate(arguments), caller)
        assert isinstance(begun, PromptResult)
        waited = structured(await client.call_tool("runs", {"action": "wait", "run_id": begun.run_id}))
    assert waited["result"]["status"] == "completed"
    assert [message.rpartition("\n")[2] for message in person.asked] == ["touch allowed", "touch refused"]
    assert files(world) == ["allowed"]


@pytest.mark.parametrize("mode", MODES)
async def test_who_repeats_the_request_of_another_server_is_asked_what_its_run_asks(world: World, mode: Mode) -> None:
    first, second = Person(NO), Person(YES)
    arguments = asks("touch allowed", workdir=str(world.workdir))
    async with connected(world, mode, first) as one, connected(world, mode, second) as two:
        begun = structured(await one.call_tool("prompt", {**arguments, "wait_secs": 0}))
        answered = structured(await two.call_tool("prompt", arguments))
    assert (answered["run_id"], answered["status"]) == (begun["run_id"], "completed")
    assert first.asked == []
    assert [message.rpartition("\n")[2] for message in second.asked] == ["touch allowed"]
    assert files(world) == ["allowed"]


async def test_a_question_that_was_answered_elsewhere_is_taken_from_the_person_who_waits(world: World) -> None:
    shown, gone, gate = anyio.Event(), anyio.Event(), world.fifo("gate")

    async def ask(question: Question) -> tuple[bool, str]:
        shown.set()
        await question.answered.wait()
        gone.set()
        return False, "nobody asks any more"

    async with world.app() as app, world.app() as other:
        caller = Caller(client="test", cwd=world.workdir, ask=ask)
        prompt = agent.prompt({"ask": "touch made"}, {"wait": str(gate)})
        begun = await prompts.prompt(app, PromptRequest(prompt=prompt, backend="claude", wait_secs=0), caller)
        assert isinstance(begun, PromptResult)
        waiting = RunsRequest(action="wait", run_id=begun.run_id)
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runs.runs, other, waiting, caller)
                await shown.wait()
                (question,) = asking.open_questions(app, begun.run_id)
                question.answer(allowed=True, reason="so decided")
                await gone.wait()
                await gate.release()
    assert files(world) == ["made"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_cannot_ask_is_told_the_command_and_how_to_allow_it(world: World, mode: Mode) -> None:
    async with connected(world, mode) as client:
        result = await client.call_tool("prompt", asks("touch made", workdir=str(world.workdir)))
        always = await client.call_tool("prompt", asks("touch made", approval_mode="always"))
    [warning] = structured(result)["warnings"]
    denied, _, advice = warning.partition("\n")
    assert denied == "permission denied: Bash: touch made"
    assert advice.startswith("to allow what was denied: ")
    for way in ("sandbox_mode full", "approval_mode auto", "backends.claude.allowed_tools", "elicitation"):
        assert way in advice
    assert warning in text_of(result)
    assert "--permission-prompt-tool=stdio" not in world.calls()[0]["argv"]
    assert files(world) == []
    assert structured(always)["error"]["code"] == "unsupported_option"
    assert "does not support elicitation" in str(structured(always)["error"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["codex", "gemini"])
async def test_a_backend_that_cannot_hand_out_its_questions_refuses_always(
    world: World, mode: Mode, backend: str
) -> None:
    async with connected(world, mode, Person(YES)) as client:
        arguments = {"prompt": "hello", "backend": backend, "approval_mode": "always"}
        result = structured(await client.call_tool("prompt", arguments))
    assert result["error"]["code"] == "unsupported_option"
    assert "cannot hand its questions to a person" in str(result["error"])


async def test_a_question_that_nobody_answers_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECS", 0.01)
    with anyio.fail_after(DEADLINE):
        async with world.app() as app:
            server, _ = server_over(app)
            async with Client(server, mode="auto", elicitation_callback=Person(YES)) as client:
                params = asks("touch made", workdir=str(world.workdir))
                first = await client.session.call_tool("prompt", params, allow_input_required=True)
                assert first.result_type == "input_required"
                (run,) = structured(await client.call_tool("runs", {"action": "list"}))["runs"]
                ended = structured(await client.call_tool("runs", {"action": "wait", "run_id": run["run_id"]}))
    assert ended["result"]["output"] == "denied: nobody answered within 0.01 s"
    assert files(world) == []


def environ(world: World) -> dict[str, str]:
    return world.environ | {"PYTHONPATH": str(SOURCE)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_person_is_asked_over_every_transport(world: World, transport: str, mode: Mode) -> None:
    person = Person(YES)
    arguments = asks("touch made", workdir=str(world.workdir))
    with anyio.fail_after(DEADLINE):
        if transport == "stdio":
            server = StdioServerParameters(command=sys.executable, args=[LAUNCH], env=environ(world))
            async with Client(server, mode=mode, elicitation_callback=person) as client:
                await client.call_tool("prompt", arguments)
        else:
            async with (
                serving(REAL_SERVER, env=environ(world)) as process,
                Client(process.url, mode=mode, elicitation_callback=person) as client,
            ):
                await client.call_tool("prompt", arguments)
    assert len(person.asked) == 1
    assert files(world) == ["made"]


def meta(**capabilities: Any) -> Message:
    return MODERN_META | {"io.modelcontextprotocol/clientCapabilities": capabilities}


async def repeated(client: RawClient, arguments: Message, **more: Any) -> Message:
    await client.call("again", "prompt", arguments, _meta=meta(elicitation={}), **more)
    return await client.answer("again")


async def test_a_call_repeated_without_an_answer_is_asked_again_and_a_forged_state_is_refused(world: World) -> None:
    arguments = asks("touch made", workdir=str(world.workdir))
    with anyio.fail_after(DEADLINE):
        async with started((sys.executable, LAUNCH), env=environ(world)) as client:
            await client.call("first", "prompt", arguments, _meta=meta(elicitation={}))
            first = (await client.answer("first"))["result"]
            assert first["resultType"] == "input_required"
            ((name, request),) = first["inputRequests"].items()
            assert request["method"] == "elicitation/create"
            assert request["params"]["message"].endswith("\n\ntouch made")

            second = (await repeated(client, arguments, requestState=first["requestState"]))["result"]
            assert list(second["inputRequests"]) == [name]
            stranger = {"someone.else": {"action": "accept", "content": {"allow": True}}}
            third = await repeated(client, arguments, requestState=second["requestState"], inputResponses=stranger)
            assert list(third["result"]["inputRequests"]) == [name]
            answers = {name: {"action": "accept", "content": {"allow": True}}}
            forged = await repeated(client, arguments, requestState="x" + first["requestState"], inputResponses=answers)
            assert forged["error"]["code"] == -32602
            assert files(world) == []

            last = await repeated(client, arguments, requestState=first["requestState"], inputResponses=answers)
            assert last["result"]["structuredContent"]["status"] == "completed"
    assert files(world) == ["made"]


async def test_a_client_that_shows_urls_only_is_not_asked(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with started((sys.executable, LAUNCH), env=environ(world)) as client:
            await client.call("1", "prompt", asks("touch made"), _meta=meta(elicitation={"url": {}}))
            result = (await client.answer("1"))["result"]
    assert result["resultType"] == "complete"
    assert "to allow what was denied: " in result["content"][0]["text"]


def test_the_document_says_how_long_a_question_stays_open() -> None:
    text = (Path(__file__).parents[2] / "docs" / "approval.md").read_text(encoding="utf-8")
    assert f"refused after {questions.ANSWER_SECS:g} s" in text


def test_nothing_can_hide_in_a_question() -> None:
    assert visible("rm -rf x\r\x1b[2K\u202etouch y\tz\n") == "rm -rf x\\r\\x1b[2K\\u202etouch y\tz\n"


def real_claude(world: World, url: str) -> dict[str, str]:
    """The environment of a server whose claude is the real one."""
    env = cli_environment("claude", world.root / "user", url)
    return env | {"CLINVK_HOME": str(world.home), "PYTHONPATH": str(SOURCE)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("approval", ["default", "always"])
@pytest.mark.parametrize("reply", [YES, NO, None], ids=["allowed", "declined", "unasked"])
async def test_the_real_claude_does_what_the_person_allows(
    world: World, mode: Mode, approval: str, reply: Reply | None
) -> None:
    cli_path("claude")
    person = Person(reply) if reply is not None else None
    command = "touch made.txt && echo hi"
    script = Script(queue=[Answer("Let me run it.", calls=(Shell(command),)), Answer("Done.")])
    with standing_in(script) as model, anyio.fail_after(DEADLINE):
        server = StdioServerParameters(command=sys.executable, args=[LAUNCH], env=real_claude(world, model.url))
        async with Client(server, mode=mode, elicitation_callback=person) as client:
            arguments = {"prompt": "please", "backend": "claude", "workdir": str(world.workdir)}
            result = structured(await client.call_tool("prompt", {**arguments, "approval_mode": approval}))
    if person is None and approval == "always":
        assert result["error"]["code"] == "unsupported_option"
        return
    assert result["output"] == "Done."
    assert files(world) == (["made.txt"] if reply is YES else [])
    if person is not None:
        assert [message.partition("\n\n")[2] for message in person.asked] == [command]
    denied = [] if reply is YES else [f"permission denied: Bash: {command}"]
    warned = [warning.partition("\n")[0] for warning in result["warnings"]]
    assert [warning for warning in warned if warning.startswith("permission denied")] == denied
    assert any("\nto allow what was denied: " in warning for warning in result["warnings"]) == (person is None)


@pytest.mark.parametrize("sandbox", ["default", "workspace", "full"])
async def test_no_settings_and_no_hooks_answer_for_the_person(world: World, sandbox: str) -> None:
    decision = {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}
    loose = {
        "permissions": {"allow": ["Bash", "Write"], "defaultMode": "acceptEdits"},
        "hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": f"echo '{json.dumps(decision)}'"}]}]},
    }
    person = Person(NO)
    made = WriteFile(str(world.workdir / "written.txt"), "x")
    calls = (made,) if sandbox == "workspace" else (Shell("touch made.txt"), made)
    script = Script(queue=[Answer("Let me.", calls=calls), Answer("Done.")])
    with standing_in(script) as model, anyio.fail_after(DEADLINE):
        env = real_claude(world, model.url)
        for folder in (world.root / "user", world.workdir):
            path = folder / ".claude" / "settings.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(loose), encoding="utf-8")
        server = StdioServerParameters(command=sys.executable, args=[LAUNCH], env=env)
        async with Client(server, elicitation_callback=person) as client:
            arguments = {"prompt": "please", "backend": "claude", "workdir": str(world.workdir)}
            bounds = {"approval_mode": "always", "sandbox_mode": sandbox}
            result = structured(await client.call_tool("prompt", {**arguments, **bounds}))
    assert (result["status"], result["output"]) == ("completed", "Done.")
    assert len(person.asked) == len(calls)
    assert files(world) == [".claude"]
