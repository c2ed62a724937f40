"""The official Anthropic SDK, unchanged, against the gateway."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from fakes import agent
from fakes.world import World
from gateway_fakes.server import Gateway, gateway, pictures, system_prompt

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
UNANSWERABLE: Any = [
    (
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        "must end with a message of the user",
    ),
    ([{"role": "user", "content": []}], "must end with a message of the user"),
    ([{"role": "robot", "content": "x"}], r"messages\[0\].role is 'robot'"),
    ([], "messages must not be empty"),
    ([{"role": "user", "content": [{"type": "video"}]}], "is 'video'; accepted: text"),
]


def user(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def sdk(world: World, key: str = "any", **flags: Any) -> AsyncGenerator[tuple[AsyncAnthropic, Gateway]]:
    async with (
        gateway(world, **flags) as server,
        AsyncAnthropic(base_url=f"{server.url}/anthropic", api_key=key, max_retries=0) as client,
    ):
        yield client, server


def text(message: Any) -> str:
    return "".join(block.text for block in message.content)


async def test_a_question_is_answered_with_model_usage_and_reason(world: World) -> None:
    async with sdk(world) as (client, _):
        got = await client.messages.create(model="claude", max_tokens=100, messages=user("hi"))
    assert (got.role, got.type, text(got), got.stop_reason) == ("assistant", "message", "echo: hi", "end_turn")
    assert got.model == "claude/fake-claude"
    assert (got.usage.input_tokens, got.usage.cache_read_input_tokens, got.usage.output_tokens) == (10, 2, 3)


async def test_a_stream_is_the_same_message_in_pieces(world: World) -> None:
    asked = agent.prompt({"say": "one "}, {"say": "two"})
    async with sdk(world) as (client, _):
        raw = await client.messages.create(model="claude", max_tokens=100, messages=user(asked), stream=True)
        kinds = [event.type async for event in raw]
        async with client.messages.stream(model="claude", max_tokens=100, messages=user(asked)) as stream:
            pieces = [piece async for piece in stream.text_stream]
            final = await stream.get_final_message()
    assert kinds == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert pieces == ["one ", "two"]
    assert (text(final), final.stop_reason) == ("one two", "end_turn")
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 3)


@pytest.mark.parametrize(
    "system", ["be brief", [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]]
)
async def test_a_system_prompt_is_a_string_or_parts(world: World, system: Any) -> None:
    async with sdk(world) as (client, _):
        await client.messages.create(model="claude", max_tokens=1, system=system, messages=user("hi"))
    assert system_prompt(world) == "be brief"


async def test_earlier_turns_of_every_kind_are_put_before_the_question(world: World) -> None:
    messages: Any = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hidden", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"at": "sky"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "blue"}]}]},
        {"role": "assistant", "content": "It is blue."},
        {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "D"}}]},
        {"role": "user", "content": "and now?"},
    ]  # fmt: skip
    async with sdk(world) as (client, _):
        await client.messages.create(model="claude", max_tokens=1, messages=messages)
    prompt: str = world.calls()[0]["prompt"]
    places = [
        prompt.index(part) for part in ("weather?", "I look.", "called look", "blue", "It is blue.", "D\n", "and now?")
    ]
    assert places == sorted(places)
    assert "hidden" not in prompt


async def test_results_of_tools_are_told_with_their_pictures_and_failures(world: World) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    messages: Any = [
        *user("look"),
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [picture]},
                {"type": "tool_result", "tool_use_id": "u", "content": "too dark", "is_error": True},
            ],
        },
    ]
    async with sdk(world) as (client, _):
        await client.messages.create(model="codex", max_tokens=1, messages=messages)
    assert pictures(world) == [base64.b64decode(PNG)]
    assert "[result of a tool, which failed]\ntoo dark" in world.calls("codex")[0]["prompt"]


async def test_what_is_ignored_within_messages_is_told(world: World) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    async with sdk(world) as (client, _):
        got = await client.messages.with_raw_response.create(
            model="claude",
            max_tokens=1,
            system=cast("Any", [{"type": "text", "text": "be brief", **mark}]),
            messages=cast("Any", [{"role": "user", "content": [{"type": "text", "text": "hi", **mark}]}]),
        )
    told = got.headers["x-clinvk-ignored"].split(", ")
    assert told == ["max_tokens", "system.cache_control", "messages.content.cache_control"]


async def test_a_stream_says_at_its_start_in_which_session_it_is(world: World) -> None:
    async with sdk(world) as (client, _):
        create = client.messages.with_streaming_response.create
        async with create(model="claude", max_tokens=1, messages=user("one"), stream=True) as first:
            await first.read()
        pinned = {"X-Clinvk-Session": first.headers["x-clinvk-session"]}
        await client.messages.create(model="claude", max_tokens=1, messages=user("two"), extra_headers=pinned)
    assert any(word.startswith("--resume=") for word in world.calls()[1]["argv"])


async def test_a_pinned_session_has_the_conversation_already(world: World) -> None:
    async with sdk(world) as (client, _):
        first = await client.messages.with_raw_response.create(model="claude", max_tokens=1, messages=user("one"))
        pinned = {"X-Clinvk-Session": first.headers["x-clinvk-session"]}
        messages: Any = [*user("one"), {"role": "assistant", "content": "echo: one"}, *user("two")]
        await client.messages.create(model="claude", max_tokens=1, messages=messages, extra_headers=pinned)
    assert world.calls()[1]["prompt"].strip() == "two"


async def test_pictures_reach_the_backend_and_are_not_kept(world: World) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    parts: Any = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    async with sdk(world) as (client, _):
        await client.messages.create(model="codex", max_tokens=1, messages=[{"role": "user", "content": parts}])
        parts[0]["source"] = {"type": "url", "url": "http://169.254.169.254/"}
        with pytest.raises(anthropic.BadRequestError, match="pictures are not fetched"):
            await client.messages.create(model="codex", max_tokens=1, messages=[{"role": "user", "content": parts}])
    assert pictures(world) == [base64.b64decode(PNG)]
    assert list((world.home / "uploads").iterdir()) == []


async def test_a_schema_is_enforced(world: World) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    async with sdk(world) as (client, _):
        got = await client.messages.create(
            model="offline", max_tokens=1, messages=user('offline:json={"a": 1}'), output_config=form
        )
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(
                model="offline", max_tokens=1, messages=user('offline:json={"b": 1}'), output_config=form
            )
    assert text(got) == '{"a": 1}'
    assert caught.value.status_code == 502


@pytest.mark.parametrize(
    ("code", "kind", "status", "told"),
    [
        ("model_unknown", anthropic.NotFoundError, 404, "not_found_error"),
        ("rate_limited", anthropic.RateLimitError, 429, "rate_limit_error"),
        ("overloaded", anthropic.InternalServerError, 529, "overloaded_error"),
        ("permission_blocked", anthropic.PermissionDeniedError, 403, "permission_error"),
        ("unsupported_option", anthropic.BadRequestError, 400, "invalid_request_error"),
        ("internal", anthropic.InternalServerError, 500, "api_error"),
        ("timeout", anthropic.InternalServerError, 504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_the_sdks_own_exceptions(
    world: World, code: str, kind: Any, status: int, told: str, stream: bool
) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(kind) as caught:
            await client.messages.create(
                model="offline", max_tokens=1, messages=user(f"offline:fail={code}"), stream=stream
            )
    body: Any = caught.value.body
    assert (caught.value.status_code, body["error"]["type"]) == (status, told)
    assert body["request_id"] == caught.value.request_id
    assert ("retry-after" in caught.value.response.headers) == (status in (429, 529))


async def test_a_wrong_key_is_an_authentication_error(world: World) -> None:
    async with sdk(world, key="wrong", environ={"CLINVK_API_KEYS": "right"}) as (client, _):
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="claude", max_tokens=1, messages=user("hi"))


async def test_a_failure_after_the_first_words_is_an_error_in_the_stream(world: World) -> None:
    asked = agent.prompt({"say": "half"}, {"fail": "boom"})
    seen: list[str] = []
    async with sdk(world) as (client, _):
        stream = await client.messages.create(model="claude", max_tokens=1, messages=user(asked), stream=True)

        async def read() -> None:
            async for event in stream:
                seen.append(event.type)  # noqa: PERF401 - it raises

        with pytest.raises(anthropic.APIStatusError, match="boom"):
            await read()
    assert seen == ["message_start", "content_block_start", "content_block_delta"]


@pytest.mark.parametrize(
    "more", [{"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, {"stop_sequences": ["END"]}]
)
async def test_what_would_change_the_answer_is_refused(world: World, more: Any) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(anthropic.BadRequestError, match="is not supported"):
            await client.messages.create(model="claude", max_tokens=1, messages=user("hi"), **more)
    assert world.calls() == []


async def test_what_is_ignored_is_told(world: World) -> None:
    config: Any = {"effort": "low"}
    async with sdk(world) as (client, _):
        got = await client.messages.with_raw_response.create(
            model="claude", max_tokens=1, messages=user("hi"), thinking={"type": "disabled"}, output_config=config
        )
    assert sorted(got.headers["x-clinvk-ignored"].split(", ")) == ["max_tokens", "output_config.effort", "thinking"]


@pytest.mark.parametrize(
    ("messages", "told"),
    UNANSWERABLE,
)
async def test_a_conversation_that_cannot_be_answered_is_refused(world: World, messages: Any, told: str) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(anthropic.BadRequestError, match=told):
            await client.messages.create(model="claude", max_tokens=1, messages=messages)
