"""Resources, prompts and completion, in memory, in both protocol eras."""

import pytest
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from clinvk.backends.registry import BACKENDS
from clinvk.request import SessionsRequest
from clinvk.response import SessionsResult, SessionTurn
from clinvk.tools.caller import Caller
from mcp_fakes.in_memory import MODES, Mode, connected
from mcp_fakes.operations import SESSION, FakeOperations

pytestmark = pytest.mark.anyio


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@pytest.mark.parametrize("mode", MODES)
async def test_the_resources_are_listed(mode: Mode) -> None:
    async with connected(mode) as client:
        static = [str(resource.uri) for resource in (await client.list_resources()).resources]
        templates = [template.uri_template for template in (await client.list_resource_templates()).resource_templates]
    assert static == ["clinvk://backends", "clinvk://sessions", "clinvk://runs"]
    assert templates == ["clinvk://sessions/{id}", "clinvk://runs/{id}/output"]


@pytest.mark.parametrize("mode", MODES)
async def test_every_resource_can_be_read(mode: Mode) -> None:
    async with connected(mode) as client:
        assert "claude (default) · available" in await read(client, "clinvk://backends")
        assert "5e55 · claude · completed · 1 turns" in await read(client, "clinvk://sessions")
        assert "4f4f · unread · prompt · completed" in await read(client, "clinvk://runs")
        assert (await read(client, "clinvk://sessions/5e55")).startswith("5e55 · claude")
        assert await read(client, "clinvk://runs/4f4f/output") == "the whole output"


class LongConversation(FakeOperations):
    async def sessions(self, request: SessionsRequest, caller: Caller) -> SessionsResult:
        numbers = range(1, 251)[request.offset : request.offset + request.limit]
        turn = SessionTurn(
            number=0,
            run_id="4f4f",
            prompt="p",
            output="o",
            backend="codex",
            status="completed",
            started_at="2026-11-21T00:00:00Z",
            ended_at="2026-11-21T00:00:01Z",
        )
        turns = [turn.model_copy(update={"number": number}) for number in numbers]
        return SessionsResult(total=250, limit=request.limit, offset=request.offset, session=SESSION, turns=turns)


async def test_of_a_long_conversation_the_newest_turns_are_read() -> None:
    async with connected("auto", LongConversation()) as client:
        text = await read(client, "clinvk://sessions/5e55")
    assert "[100 of 250 turns, from offset 150]" in text
    assert "## Turn 151 " in text
    assert "## Turn 250 " in text
    assert "## Turn 150 " not in text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("uri", ["clinvk://sessions/0000", "clinvk://runs/0000/output", "clinvk://elsewhere"])
async def test_a_resource_that_is_not_there_is_a_protocol_error_that_names_it(uri: str, mode: Mode) -> None:
    async with connected(mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    assert (caught.value.error.code, caught.value.error.data) == (-32602, {"uri": uri})


PROMPTS: list[tuple[str, dict[str, str], list[str]]] = [
    ("review", {"target": "src/"}, ["Review: src/", "the available backends", "read-only"]),
    ("review", {"target": "x", "backends": "claude,codex", "focus": "locks"}, ["claude,codex", "Look for: locks"]),
    ("plan_and_implement", {"task": "add a flag", "workdir": "/w"}, ["{{steps.plan}}", "`codex`", "`workdir: /w`"]),
    ("second_opinion", {"question": "why?", "backend": "gemini", "model": "pro"}, ["why?", "`backend: gemini`", "pro"]),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "given", "expected"), PROMPTS)
async def test_a_prompt_is_filled_with_its_arguments(
    name: str, given: dict[str, str], expected: list[str], mode: Mode
) -> None:
    async with connected(mode) as client:
        (message,) = (await client.get_prompt(name, given)).messages
    assert isinstance(message.content, TextContent)
    assert [part for part in expected if part not in message.content.text] == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "told"), [("review", "target"), ("nonsense", "Unknown prompt: nonsense")])
async def test_a_wrong_prompt_is_an_invalid_request_that_says_why(name: str, told: str, mode: Mode) -> None:
    async with connected(mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, {})
    assert caught.value.error.code == -32602
    assert told in caught.value.error.message


@pytest.mark.parametrize("mode", MODES)
async def test_backends_models_and_ids_are_completed(mode: Mode) -> None:
    opinion, review = PromptReference(name="second_opinion"), PromptReference(name="review")
    session = ResourceTemplateReference(uri="clinvk://sessions/{id}")
    output = ResourceTemplateReference(uri="clinvk://runs/{id}/output")
    async with connected(mode) as client:

        async def values(
            ref: PromptReference | ResourceTemplateReference, name: str, typed: str, **given: str
        ) -> list[str]:
            done = await client.complete(ref, {"name": name, "value": typed}, context_arguments=given or None)
            return done.completion.values

        assert await values(opinion, "backend", "") == list(BACKENDS)
        assert await values(opinion, "backend", "Co") == ["codex"]
        assert await values(review, "backends", "claude,ge") == ["claude,gemini"]
        assert await values(opinion, "model", "", backend="claude") == ["opus", "sonnet"]
        assert await values(opinion, "model", "", backend="codex") == ["configured"]
        assert await values(session, "id", "5") == ["5e55"]
        assert await values(output, "id", "") == ["4f4f"]
        assert await values(output, "id", "x") == []
        assert await values(review, "focus", "l") == []
