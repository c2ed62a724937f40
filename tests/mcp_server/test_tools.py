"""The tools as a client of the SDK sees them, in memory, in both protocol eras."""

import json
from pathlib import Path
from typing import Any, cast

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest

from clinvk.backends.registry import BACKENDS
from clinvk.mcp_server.catalog import CATALOG
from clinvk.mcp_server.wording import WORDS
from clinvk.response import StepResult
from mcp_fakes.in_memory import MODES, Mode, connected, structured, text_of
from mcp_fakes.operations import FakeOperations

pytestmark = pytest.mark.anyio

NAMES = ["prompt", "parallel", "chain", "compare", "sessions", "session_edit", "runs", "cancel", "backends"]
EVERY_CALL: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "echo hello"},
    "parallel": {"tasks": [{"prompt": "a"}, {"prompt": "b", "backend": "codex"}]},
    "chain": {"steps": [{"prompt": "a", "name": "plan"}, {"prompt": "{{previous}}"}]},
    "compare": {"prompt": "which?"},
    "sessions": {"action": "list"},
    "session_edit": {"action": "rename", "session_id": "5e55", "title": "x"},
    "runs": {"action": "wait", "run_id": "4f4f"},
    "cancel": {"run_id": "4f4f"},
    "backends": {},
}


@pytest.mark.parametrize("mode", MODES)
async def test_exactly_the_tools_of_the_contract_are_listed(mode: Mode) -> None:
    async with connected(mode) as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == NAMES


async def test_schemas_and_descriptions_stay_within_their_budget() -> None:
    async with connected() as client:
        tools = (await client.list_tools()).tools
        instructions = client.instructions or ""
    weights = {tool.name: len(json.dumps([tool.name, tool.description, tool.input_schema])) for tool in tools}
    assert sum(weights.values()) <= 8 * 1024, weights
    assert max(len(tool.description or "") for tool in tools) < 2 * 1024
    assert len(instructions) < 2 * 1024
    assert "/work" in instructions
    assert "90 s" in instructions


async def test_schemas_carry_nothing_that_a_model_does_not_need() -> None:
    async with connected() as client:
        tools = (await client.list_tools()).tools
    text = json.dumps([tool.input_schema for tool in tools])
    assert [word for word in ('"anyOf"', '"null"', "$ref", "$defs", '"default": null') if word in text] == []
    titled = [tool.name for tool in tools if '"title": "' in json.dumps(tool.input_schema)]
    assert titled == []


async def test_every_parameter_of_a_request_is_in_the_schema_and_every_note_names_one() -> None:
    async with connected() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    for entry in CATALOG:
        properties = cast("dict[str, Any]", tools[entry.name].input_schema["properties"])
        assert list(properties) == list(entry.request.model_fields)
        items = {
            f"items.{name}" for child in properties.values() for name in child.get("items", {}).get("properties", {})
        }
        assert set(WORDS[entry.name].notes) <= set(properties) | items


async def test_backends_modes_and_actions_are_enumerated_wherever_they_stand() -> None:
    async with connected() as client:
        tools = {
            tool.name: cast("dict[str, Any]", tool.input_schema["properties"])
            for tool in (await client.list_tools()).tools
        }
    backends = list(BACKENDS)
    assert tools["prompt"]["backend"]["enum"] == backends
    assert tools["prompt"]["approval_mode"]["enum"] == ["default", "auto", "none", "always"]
    assert tools["prompt"]["sandbox_mode"]["enum"] == ["default", "read-only", "workspace", "full"]
    assert tools["parallel"]["tasks"]["items"]["properties"]["backend"]["enum"] == backends
    assert tools["chain"]["steps"]["items"]["properties"]["sandbox_mode"]["enum"][1] == "read-only"
    assert tools["compare"]["backends"]["items"]["enum"] == backends
    assert tools["compare"]["judge"]["enum"] == backends
    assert tools["sessions"]["action"]["enum"] == ["list", "search", "show"]
    assert tools["session_edit"]["action"]["enum"] == ["fork", "tag", "untag", "rename", "delete"]
    assert tools["runs"]["action"]["enum"] == ["list", "status", "wait", "output"]


async def test_annotations_are_honest() -> None:
    async with connected() as client:
        tools = (await client.list_tools()).tools
    told = {}
    for tool in tools:
        hints = tool.annotations
        assert hints is not None
        told[tool.name] = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
    runs_an_agent, reads = (False, True, False, True), (True, False, True, False)
    assert told == {
        **dict.fromkeys(("prompt", "parallel", "chain", "compare"), runs_an_agent),
        **dict.fromkeys(("sessions", "runs", "backends"), reads),
        "session_edit": (False, True, False, False),
        "cancel": (False, True, True, False),
    }


async def test_tools_with_long_answers_ask_clients_not_to_cut_them() -> None:
    async with connected() as client:
        tools = {tool.name: tool.meta or {} for tool in (await client.list_tools()).tools}
    sizes = {name: meta.get("anthropic/maxResultSizeChars", 0) for name, meta in tools.items()}
    assert all(200_000 <= sizes[name] <= 500_000 for name in ("prompt", "parallel", "chain", "compare", "runs"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", NAMES)
async def test_every_tool_answers_with_text_and_with_what_its_output_schema_says(tool: str, mode: Mode) -> None:
    async with connected(mode) as client:
        await client.list_tools()  # the client then validates results against the output schema
        result = await client.call_tool(tool, EVERY_CALL[tool])
    assert result.is_error is (tool == "chain")  # whose second step fails
    assert text_of(result)
    assert structured(result)


@pytest.mark.parametrize("mode", MODES)
async def test_the_text_of_a_prompt_is_the_answer_and_one_line_to_go_on(mode: Mode) -> None:
    async with connected(mode) as client:
        result = await client.call_tool("prompt", {"prompt": "echo hello", "backend": "codex"})
    assert text_of(result) == "hello\n\n[codex · completed · session_id 5e55 · run_id 4f4f]"
    assert structured(result)["output"] == "hello"


@pytest.mark.parametrize("mode", MODES)
async def test_a_failed_run_is_an_error_result_with_what_happened_what_to_do_and_what_there_is(mode: Mode) -> None:
    async with connected(mode) as client:
        result = await client.call_tool("prompt", {"prompt": "fail half an answer"})
    assert result.is_error
    assert text_of(result) == (
        "timeout: no answer in 5 s\nHint: raise timeout_secs\n\nPartial output:\nhalf an answer\n\n"
        "[claude · failed · session_id 5e55 · run_id 4f4f]"
    )
    assert structured(result)["error"]["code"] == "timeout"
    assert structured(result)["partial"] is True


@pytest.mark.parametrize("mode", MODES)
async def test_a_refusal_has_the_shape_of_the_tools_result(mode: Mode) -> None:
    async with connected(mode) as client:
        result = await client.call_tool("prompt", {"prompt": "refuse 9", "backend": "codex"})
    assert result.is_error
    assert text_of(result).startswith("session_not_found: no session '9'\nHint: list them with sessions")
    content = structured(result)
    assert (content["run_id"], content["status"], content["backend"]) == ("", "failed", "codex")
    assert content["error"]["code"] == "session_not_found"


@pytest.mark.parametrize("tool", NAMES)
async def test_bad_arguments_of_every_tool_are_an_invalid_request_in_its_own_shape(tool: str) -> None:
    async with connected() as client:
        good = structured(await client.call_tool(tool, EVERY_CALL[tool]))
        result = await client.call_tool(tool, {**EVERY_CALL[tool], "nonsense": 1})
    assert result.is_error
    assert "there is no parameter nonsense" in text_of(result)
    content = structured(result)
    assert content["error"]["code"] == "invalid_request"
    assert content["error"]["details"] == {"fields": ["nonsense"]}
    assert set(content) == set(good)


async def test_an_unknown_tool_is_told_with_the_nearest_and_with_all_that_exist() -> None:
    async with connected() as client:
        result = await client.call_tool("promt", {"prompt": "x"})
    assert result.is_error
    assert text_of(result) == f"Unknown tool: promt; did you mean prompt? tools: {', '.join(NAMES)}"


async def test_every_field_of_a_result_is_in_the_output_schema() -> None:
    async with connected() as client:
        schemas = {tool.name: tool.output_schema or {} for tool in (await client.list_tools()).tools}
    for entry in CATALOG:
        for model in entry.results:
            assert set(model.model_fields) <= set(schemas[entry.name]["properties"])
    parts = schemas["chain"]["$defs"]["StepResult"]["properties"]
    assert set(parts) == set(StepResult.model_fields)
    for value in (None, 1.5, True, "text", [1, "a"], {"a": [None]}):
        jsonschema.validate(value, schemas["prompt"]["properties"]["structured_output"])


async def test_a_bug_is_an_error_result_that_reveals_nothing_of_the_server() -> None:
    async with connected() as client:
        result = await client.call_tool("prompt", {"prompt": "crash"})
    assert result.is_error
    assert structured(result)["error"]["code"] == "internal"
    assert "secret" not in json.dumps(result.model_dump(mode="json"))


async def test_a_dry_run_shows_what_would_run() -> None:
    async with connected() as client:
        await client.list_tools()
        result = await client.call_tool("prompt", {"prompt": "x", "dry_run": True})
    assert not result.is_error
    assert structured(result)["argv"] == ["claude", "-p"]
    assert "Would run claude in /work" in text_of(result)


async def test_a_call_carries_who_calls_and_where() -> None:
    operations = FakeOperations()
    async with connected("legacy", operations) as client:
        await client.call_tool("prompt", {"prompt": "echo x"})
    (_, caller) = operations.prompts[0]
    assert (caller.client, caller.cwd) == ("mcp", Path("/work"))


@pytest.mark.parametrize("mode", MODES)
async def test_progress_begins_at_once_rises_strictly_and_tells_the_newest(mode: Mode) -> None:
    told: list[tuple[float, str]] = []
    enough = anyio.Event()

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message or ""))
        if len(told) == 3:
            enough.set()

    operations = FakeOperations()
    async with connected(mode, operations) as client, anyio.create_task_group() as group:

        async def call() -> None:
            await client.call_tool("prompt", {"prompt": "wait", "backend": "codex"}, progress_callback=listen)

        group.start_soon(call)
        await enough.wait()
        group.cancel_scope.cancel()
    numbers = [number for number, _ in told]
    assert numbers == sorted(set(numbers))
    assert told[0][1] == "codex · queued 0s"
    assert {message.partition(" · ")[0] for _, message in told} == {"codex"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_gives_up_cancels_the_operation(mode: Mode) -> None:
    operations = FakeOperations()
    async with connected(mode, operations) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "prompt", {"prompt": "wait"})
            await operations.waiting.wait()
            group.cancel_scope.cancel()
        await operations.cancelled.wait()


async def test_a_parallel_text_names_every_task_and_how_it_ended() -> None:
    async with connected() as client:
        tasks = [{"prompt": "a", "name": "first"}, {"prompt": "b", "backend": "codex"}]
        text = text_of(await client.call_tool("parallel", {"tasks": tasks}))
    assert text.startswith("completed: 2 of 2 tasks completed, 0 failed, 0 cancelled")
    assert "## Task 1 (first) · claude · completed" in text
    assert "## Task 2 · codex · completed" in text


async def test_a_chain_text_names_the_step_that_failed_and_keeps_its_partial_output() -> None:
    async with connected() as client:
        text = text_of(await client.call_tool("chain", EVERY_CALL["chain"]))
    assert text.startswith("failed: 1 of 2 steps completed; step 2 failed")
    assert "backend_error: exit status 1\n\nPartial output:\nhalf" in text


async def test_the_full_output_of_a_run_is_read_with_where_it_ends() -> None:
    async with connected() as client:
        result = await client.call_tool("runs", {"action": "output", "run_id": "4f4f"})
    assert text_of(result) == "the whole output\n\n[from 0 of 16 characters; the end]"
