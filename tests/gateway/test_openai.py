"""The official OpenAI SDK, unchanged, against the gateway."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from fakes import agent
from fakes.world import World
from gateway_fakes.server import Gateway, Json, gateway, pictures, system_prompt

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def sdk(world: World, key: str = "any", **flags: Any) -> AsyncGenerator[tuple[AsyncOpenAI, Gateway]]:
    async with (
        gateway(world, **flags) as server,
        AsyncOpenAI(base_url=f"{server.url}/openai/v1", api_key=key, max_retries=0) as client,
    ):
        yield client, server


async def test_a_question_is_answered_with_model_usage_and_reason(world: World) -> None:
    async with sdk(world) as (client, _):
        got = await client.chat.completions.create(model="claude", messages=user("hi"))
    choice = got.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "echo: hi", "stop")
    assert got.model == "claude/fake-claude"
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (12, 3, 15)
    assert got.usage.prompt_tokens_details is not None
    assert got.usage.prompt_tokens_details.cached_tokens == 2


async def test_a_stream_is_the_same_answer_in_pieces(world: World) -> None:
    asked = agent.prompt({"say": "one "}, {"say": "two"})
    async with sdk(world) as (client, _):
        stream = await client.chat.completions.create(
            model="claude", messages=user(asked), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "one ", "two", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    assert len({chunk.id for chunk in chunks}) == 1


async def test_several_messages_of_an_agent_are_streamed_apart(world: World) -> None:
    asked = agent.prompt({"answer": "I will look."}, {"answer": "Found it."})
    async with sdk(world) as (client, _):
        stream = await client.chat.completions.create(model="claude", messages=user(asked), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        plain = await client.chat.completions.create(model="claude", messages=user(asked))
    assert text == "I will look.\n\nFound it."
    assert plain.choices[0].message.content == "Found it."


async def test_usage_that_nobody_knows_is_not_given_as_0(world: World) -> None:
    async with sdk(world) as (client, _):
        got = await client.chat.completions.create(model="offline", messages=user("hi"))
    assert got.usage is None


@pytest.mark.parametrize("system", ["be brief", [{"type": "text", "text": "be brief"}]])
async def test_system_prompts_and_parts_reach_the_backend(world: World, system: Any) -> None:
    messages: Any = [
        {"role": "system", "content": system},
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
    ]
    async with sdk(world) as (client, _):
        await client.chat.completions.create(model="claude", messages=messages)
    assert world.calls()[0]["prompt"].strip() == "one\ntwo"
    assert system_prompt(world) == "be brief\n\nbe kind"


async def test_earlier_turns_are_put_before_the_question(world: World) -> None:
    messages: Any = [
        {"role": "user", "content": "my name is Ada"},
        {"role": "assistant", "content": "hello Ada"},
        {"role": "user", "content": "who am I?"},
    ]
    async with sdk(world) as (client, _):
        await client.chat.completions.create(model="claude", messages=messages)
    prompt = world.calls()[0]["prompt"]
    assert prompt.index("<user>\nmy name is Ada") < prompt.index("<assistant>\nhello Ada") < prompt.index("who am I?")


async def test_a_pinned_session_has_the_conversation_already(world: World) -> None:
    async with sdk(world) as (client, server):
        first = await client.chat.completions.with_raw_response.create(model="claude", messages=user("one"))
        session = first.headers["x-clinvk-session"]
        messages: Any = [*user("one"), {"role": "assistant", "content": "echo: one"}, *user("two")]
        pinned = {"X-Clinvk-Session": session}
        await client.chat.completions.create(model="claude", messages=messages, extra_headers=pinned)
        shown = (await server.client.get(f"/api/v1/sessions/{session}")).json()
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(
                model="claude", messages=messages, extra_headers={"X-Clinvk-Session": "nope"}
            )
    assert world.calls()[1]["prompt"].strip() == "two"
    assert shown["session"]["turn_count"] == 2


async def test_a_stream_says_at_its_start_in_which_session_it_is(world: World) -> None:
    async with sdk(world) as (client, _):
        create = client.chat.completions.with_streaming_response.create
        async with create(model="claude", messages=user("one"), stream=True) as first:
            await first.read()
        pinned = {"X-Clinvk-Session": first.headers["x-clinvk-session"]}
        await client.chat.completions.create(model="claude", messages=user("two"), extra_headers=pinned)
        off = {"clinvk": {"ephemeral": True}}
        async with create(model="claude", messages=user("three"), stream=True, extra_body=off) as ephemeral:
            await ephemeral.read()
    assert any(word.startswith("--resume=") for word in world.calls()[1]["argv"])
    assert "x-clinvk-session" not in ephemeral.headers


async def test_warnings_of_a_result_are_told(world: World) -> None:
    async with sdk(world) as (client, _):
        first = await client.chat.completions.with_raw_response.create(model="claude", messages=user("one"))
        pinned = {"X-Clinvk-Session": first.headers["x-clinvk-session"]}
        other = await client.chat.completions.with_raw_response.create(
            model="codex", messages=user("two"), extra_headers=pinned
        )
        back = await client.chat.completions.create(
            model="claude", messages=user("three"), extra_headers=pinned, stream=True
        )
        ends = [chunk.model_extra async for chunk in back if chunk.choices[0].finish_reason]
    assert "x-clinvk-warning" not in first.headers
    assert "handed over from claude to codex" in other.headers["x-clinvk-warning"]
    assert ends[0] is not None
    assert "handed over from codex to claude" in ends[0]["clinvk"]["warnings"][0]


async def test_pictures_reach_the_backend_and_are_not_kept(world: World) -> None:
    parts: Any = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "text", "text": "what is it?"},
    ]
    async with sdk(world, server__allowed_workdir_prefixes=[str(world.workdir)]) as (client, _):
        await client.chat.completions.create(model="codex", messages=[{"role": "user", "content": parts}])
    assert pictures(world) == [base64.b64decode(PNG)]
    assert list((world.home / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "image_url", "image_url": {"url": "http://169.254.169.254/x.png"}}, "pictures are not fetched"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "pictures are not fetched"),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}}, "accepted: image/png"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}, "is not valid base64"),
        ({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, "is 'input_audio'; accepted: text"),
    ],
)
async def test_parts_that_cannot_be_used_are_refused(world: World, part: Any, told: str) -> None:
    messages: Any = [{"role": "user", "content": [part, {"type": "text", "text": "x"}]}]
    async with sdk(world) as (client, _):
        with pytest.raises(openai.BadRequestError, match=told):
            await client.chat.completions.create(model="claude", messages=messages)
    assert world.calls() == []


class Colour(BaseModel):
    name: str
    red: int


async def test_a_schema_is_enforced_and_parsed(world: World) -> None:
    asked = user('offline:json={"name": "rust", "red": 183}')
    async with sdk(world) as (client, _):
        got = await client.chat.completions.parse(model="offline", messages=asked, response_format=Colour)
        async with client.chat.completions.stream(model="offline", messages=asked, response_format=Colour) as stream:
            streamed = await stream.get_final_completion()
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.parse(
                model="offline", messages=user('offline:json={"name": 1}'), response_format=Colour
            )
    assert got.choices[0].message.parsed == streamed.choices[0].message.parsed == Colour(name="rust", red=183)
    assert caught.value.status_code == 502


async def test_json_object_is_any_object(world: World) -> None:
    async with sdk(world) as (client, _):
        got = await client.chat.completions.create(
            model="offline", messages=user('offline:json={"a": [1]}'), response_format={"type": "json_object"}
        )
    assert got.choices[0].message.content == '{"a": [1]}'


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("model_unknown", openai.NotFoundError, 404),
        ("rate_limited", openai.RateLimitError, 429),
        ("overloaded", openai.RateLimitError, 429),
        ("permission_blocked", openai.PermissionDeniedError, 403),
        ("unsupported_option", openai.BadRequestError, 400),
        ("session_busy", openai.ConflictError, 409),
        ("internal", openai.InternalServerError, 500),
        ("backend_error", openai.InternalServerError, 502),
        ("timeout", openai.InternalServerError, 504),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_the_sdks_own_exceptions(
    world: World, code: str, kind: Any, status: int, stream: bool
) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="offline", messages=user(f"offline:fail={code}"), stream=stream)
    assert caught.value.status_code == status
    assert caught.value.request_id
    assert ("retry-after" in caught.value.response.headers) == (status == 429)


async def test_a_wrong_key_is_an_authentication_error(world: World) -> None:
    async with sdk(world, key="wrong", environ={"CLINVK_API_KEYS": "right"}) as (client, _):
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="claude", messages=user("hi"))
    assert caught.value.code == "invalid_api_key"


async def test_a_failure_after_the_first_words_is_an_error_in_the_stream(world: World) -> None:
    asked = agent.prompt({"say": "half"}, {"fail": "boom"})
    texts: list[str | None] = []
    async with sdk(world) as (client, _):
        stream = await client.chat.completions.create(model="claude", messages=user(asked), stream=True)

        async def read() -> None:
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - it raises

        with pytest.raises(openai.APIError, match="boom"):
            await read()
    assert texts == ["", "half"]


@pytest.mark.parametrize("code", ["backend_error", "timeout", "stalled", "interrupted"])
async def test_the_sdk_does_not_repeat_what_would_fail_or_cost_again(world: World, code: str) -> None:
    async with sdk(world) as (client, server):
        patient = client.with_options(max_retries=2)
        with pytest.raises(openai.InternalServerError):
            await patient.chat.completions.create(model="offline", messages=user(f"offline:fail={code}"))
        listed = (await server.client.get("/api/v1/runs")).json()
    assert listed["total"] == 1


@pytest.mark.parametrize(
    ("content", "param", "told"),
    [
        (5, "messages[0].content", "is 5; it must be a valid string or a valid list"),
        ({"str": 1}, "messages[0].content", "is {'str': 1}; it must be a valid string or a valid list"),
        ([5], "messages[0].content[0]", "is 5; it must be an object"),
        ([{"text": "a"}], "messages[0].content[0].type", "is required"),
        ([{"type": "text", "text": 5}], "messages[0].content[0].text", "is 5; it must be a valid string"),
    ],
)
async def test_a_value_that_may_be_several_things_is_named_as_the_client_wrote_it(
    world: World, content: object, param: str, told: str
) -> None:
    body = {"model": "claude", "messages": [{"role": "user", "content": content}]}
    async with gateway(world) as server:
        error = (await server.post("/openai/v1/chat/completions", body)).json()["error"]
        anthropic = (await server.post("/anthropic/v1/messages", {**body, "max_tokens": 1})).json()["error"]
    assert (error["param"], error["message"]) == (param, f"{param} {told} (correct the request)")
    assert anthropic["message"] == error["message"]


@pytest.mark.parametrize(
    ("more", "headers", "param", "told"),
    [
        ({"clinvk": {"workdir": "/a"}}, {"X-Clinvk-Workdir": "/b"}, "clinvk.workdir", "X-Clinvk-Workdir says '/b'"),
        ({"clinvk": {"workdir": ""}}, {}, "clinvk.workdir", "must not be empty"),
        ({}, {"X-Clinvk-Workdir": ""}, "X-Clinvk-Workdir", "must not be empty"),
        ({}, {"X-Clinvk-Session": ""}, "X-Clinvk-Session", "must not be empty"),
        ({"stream_options": {"include_usage": True}}, {}, "stream_options", "only allowed when stream is true"),
        ({"user": "ada", "metadata": {"user": "eve"}}, {}, "user", "but metadata.user is 'eve'"),
    ],
)
async def test_what_contradicts_itself_is_refused_and_both_sides_are_named(
    world: World, more: Json, headers: dict[str, str], param: str, told: str
) -> None:
    body = {"model": "claude", "messages": user("hi"), **more}
    async with gateway(world) as server:
        answer = await server.post("/openai/v1/chat/completions", body, **headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert told in answer.json()["error"]["message"]
    assert world.calls() == []


NO_SCHEMA = {"type": "nothing"}


async def test_faults_of_a_prompt_are_told_by_the_names_that_the_caller_wrote(world: World) -> None:
    chat, messages = "/openai/v1/chat/completions", "/anthropic/v1/messages"
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": NO_SCHEMA}}
    config = {"format": {"type": "json_schema", "schema": NO_SCHEMA}}
    asked = {"model": "claude", "messages": user("hi")}
    async with gateway(world) as server:
        schema = await server.post(chat, {**asked, "response_format": form})
        turns = await server.post(chat, {**asked, "model": "codex", "clinvk": {"max_turns": 3}})
        anthropic = await server.post(messages, {**asked, "output_config": config})
    name = "response_format.json_schema.schema"
    assert (schema.status_code, schema.json()["error"]["param"]) == (400, name)
    assert schema.json()["error"]["message"].startswith(f"{name} is no valid JSON Schema: type: 'nothing'")
    assert (turns.status_code, turns.json()["error"]["param"]) == (400, "clinvk.max_turns")
    assert anthropic.status_code == 400
    assert anthropic.json()["error"]["message"].startswith("output_config.format.schema is no valid JSON Schema")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"n": True}, "n is true; it must be a number"),
        ({"top_logprobs": False}, "top_logprobs is false; it must be a number"),
        ({"logprobs": 0}, "logprobs is 0; it must be true or false"),
        ({"stream": 1}, "stream is 1; it must be true or false"),
        (
            {"stream": True, "stream_options": {"include_usage": 0}},
            "stream_options.include_usage is 0; it must be true",
        ),
        ({"clinvk": {"max_turns": True}}, "clinvk.max_turns is true; it must be a number"),
        ({"clinvk": {"ephemeral": 1}}, "clinvk.ephemeral is 1; it must be true or false"),
    ],
)
async def test_true_is_no_number_and_a_number_is_not_true(world: World, more: Json, told: str) -> None:
    async with gateway(world) as server:
        answer = await server.post("/openai/v1/chat/completions", {"model": "claude", "messages": user("hi"), **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", told.partition(" ")[0])
    assert error["message"].startswith(told)
    assert world.calls() == []


NOWHERE = "/no/such/folder"


@pytest.mark.parametrize(
    ("more", "headers", "status", "param", "told"),
    [
        ({}, {"X-Clinvk-Workdir": NOWHERE}, 400, "X-Clinvk-Workdir", f"X-Clinvk-Workdir '{NOWHERE}' does not exist"),
        ({"clinvk": {"workdir": NOWHERE}}, {}, 400, "clinvk.workdir", f"clinvk.workdir '{NOWHERE}' does not exist"),
        ({}, {"X-Clinvk-Workdir": "/etc"}, 403, "X-Clinvk-Workdir", "X-Clinvk-Workdir '/etc' is in a blocked"),
        ({}, {"X-Clinvk-Session": "nosuch"}, 404, "X-Clinvk-Session", "no session 'nosuch'"),
        ({}, {"X-Clinvk-Session": "No Session"}, 400, "X-Clinvk-Session", "'No Session' is not a session id"),
        ({"model": "offline/none"}, {}, 404, "model", "the offline backend has no model 'none'"),
        ({"messages": user("a\0b")}, {}, 400, "messages[0].content", "messages[0].content must not contain NUL"),
    ],
)
async def test_what_is_wrong_with_one_input_is_told_with_its_name(
    world: World, more: Json, headers: dict[str, str], status: int, param: str, told: str
) -> None:
    body = {"model": "claude", "messages": user("hi"), **more}
    async with gateway(world, server__blocked_workdir_prefixes=["/etc"]) as server:
        answer = await server.post("/openai/v1/chat/completions", body, **headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert told in answer.json()["error"]["message"]
    assert world.calls() == []


async def test_an_answer_that_is_not_of_the_wanted_shape_is_told_by_the_callers_name(world: World) -> None:
    asked = {"model": "offline", "messages": user("offline:json=[1]"), "response_format": {"type": "json_object"}}
    async with gateway(world) as server:
        answer = await server.post("/openai/v1/chat/completions", asked)
        kept = await server.client.get(f"/api/v1/runs/{answer.headers['x-clinvk-run']}")
    assert answer.status_code == 502
    assert "fits response_format: " in answer.json()["error"]["message"]
    assert "output_schema" not in answer.text
    assert "what it answered is kept as the output of its run" in answer.json()["error"]["message"]
    assert kept.json()["result"]["output"] == "[1]"


async def test_header_and_body_may_say_the_same(world: World) -> None:
    where = str(world.workdir)
    body = {"model": "claude", "messages": user("hi"), "clinvk": {"workdir": where}}
    async with gateway(world) as server:
        answer = await server.post("/openai/v1/chat/completions", body, **{"X-Clinvk-Workdir": where})
    assert answer.status_code == 200


async def test_a_schema_that_the_format_does_not_ask_for_is_listed(world: World) -> None:
    form = {"type": "text", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    async with gateway(world) as server:
        body = {"model": "claude", "messages": user("hi"), "response_format": form}
        answer = await server.post("/openai/v1/chat/completions", body)
    assert (answer.status_code, answer.headers["x-clinvk-ignored"]) == (200, "response_format.json_schema")


async def test_what_does_not_fit_is_the_clients_fault_and_named(world: World) -> None:
    async with gateway(world) as server:
        wrong = await server.post("/openai/v1/chat/completions", {"model": "claude", "messages": "hi"})
        method = await server.client.put("/openai/v1/models")
        anthropic = await server.client.put("/anthropic/v1/messages")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "messages")
    assert (method.status_code, method.json()["error"]["type"]) == (405, "invalid_request_error")
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (405, "invalid_request_error")


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"stop": ["END"]},
        {"logprobs": True},
        {"modalities": ["text", "audio"]},
    ],
)
async def test_what_would_change_the_answer_is_refused(world: World, more: Any) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(openai.BadRequestError, match="is not supported") as caught:
            await client.chat.completions.create(model="claude", messages=user("hi"), **more)
    assert caught.value.param == next(iter(more))
    assert ("response_format" in caught.value.message) == any(word in str(more) for word in ("tool", "function"))
    assert world.calls() == []


async def test_what_is_ignored_is_told(world: World) -> None:
    async with sdk(world) as (client, _):
        got = await client.chat.completions.with_raw_response.create(
            model="claude", messages=user("hi"), temperature=0.5, seed=1, n=1, max_tokens=5, extra_body={"odd": 1}
        )
        stream = await client.chat.completions.with_raw_response.create(
            model="claude", messages=user("hi"), top_p=0.5, stream=True
        )
        async for _chunk in await _parsed(stream):
            pass
        plain = await client.chat.completions.with_raw_response.create(model="claude", messages=user("hi"), stop=None)
    assert sorted(got.headers["x-clinvk-ignored"].split(", ")) == ["max_tokens", "odd", "seed", "temperature"]
    assert stream.headers["x-clinvk-ignored"] == "top_p"
    assert "x-clinvk-ignored" not in plain.headers


async def test_what_is_ignored_within_messages_is_told_too(world: World) -> None:
    url = {"url": f"data:image/png;base64,{PNG}", "detail": "high"}
    messages: Any = [
        {"role": "system", "content": "be brief", "name": "admin"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": url}]},
        {"role": "assistant", "content": "hello", "refusal": None, "annotations": [], "tool_calls": None},
        {"role": "user", "content": "hi", "name": "bob"},
    ]
    async with sdk(world) as (client, _):
        got = await client.chat.completions.with_raw_response.create(model="codex", messages=messages)
    told = got.headers["x-clinvk-ignored"].split(", ")
    assert told == ["messages.name", "messages.content.image_url.detail"]


async def test_calls_of_tools_in_earlier_turns_are_told_however_they_are_written(world: World) -> None:
    called = {"name": "look", "arguments": '{"at": "sky"}'}
    messages: Any = [
        *user("weather?"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function", "function": called}]},
        {"role": "tool", "tool_call_id": "t", "content": "blue"},
        {"role": "assistant", "content": None, "function_call": called},
        {"role": "function", "name": "look", "content": "grey"},
        {"role": "assistant", "content": None, "refusal": "I will not look again."},
        *user("so?"),
    ]
    async with sdk(world) as (client, _):
        await client.chat.completions.create(model="claude", messages=messages)
    prompt: str = world.calls()[0]["prompt"]
    assert prompt.count('[called look with {"at": "sky"}]') == 2
    assert "<assistant>\nI will not look again.\n</assistant>" in prompt


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"messages": user("a\0b")}, "NUL"),
        ({"messages": [{"role": "system", "content": "\0"}, *user("hi")]}, "NUL"),
        ({"model": f"claude/{'x' * 300}"}, "model has 300 characters; at most 200"),
        ({"clinvk": {"workdir": "\0"}}, "NUL"),
        ({"clinvk": {"tags": ["\0"]}}, "NUL"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_text_that_no_cli_takes_is_refused(world: World, body: Any, told: str, *, stream: bool) -> None:
    async with gateway(world) as server:
        given = {"model": "claude", "messages": user("hi"), "stream": stream, **body}
        answer = await server.post("/openai/v1/chat/completions", given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert told in answer.json()["error"]["message"]
    assert world.calls() == []


async def test_a_parameter_cannot_smuggle_in_a_header(world: World) -> None:
    extra = {"odd\r\nSet-Cookie: a=b\r\n": 1, "h\xf6flich\0": 1}
    async with sdk(world) as (client, _):
        got = await client.chat.completions.with_raw_response.create(
            model="claude", messages=user("hi"), extra_body=extra
        )
    assert got.headers["x-clinvk-ignored"] == "odd??Set-Cookie: a=b??, h?flich?"
    assert "set-cookie" not in got.headers


async def _parsed(response: Any) -> Any:
    parsed = response.parse()
    return await parsed if hasattr(parsed, "__await__") else parsed


async def test_options_of_clinvk_travel_in_the_body(world: World) -> None:
    inner = world.workdir / "inner"
    inner.mkdir()
    more = {"clinvk": {"workdir": str(inner), "sandbox_mode": "read-only", "tags": ["chat"]}}
    async with sdk(world) as (client, server):
        await client.chat.completions.create(
            model="claude", messages=user("hi"), extra_body=more, metadata={"ticket": "7"}, user="ada"
        )
        listed = (await server.client.get("/api/v1/sessions", params={"tag": "chat"})).json()
        shown = (await server.client.get(f"/api/v1/sessions/{listed['sessions'][0]['id']}")).json()
        with pytest.raises(openai.BadRequestError, match="did you mean sandbox_mode"):
            await client.chat.completions.create(
                model="claude", messages=user("hi"), extra_body={"clinvk": {"sandbox_mod": "full"}}
            )
    assert world.calls()[0]["cwd"] == str(inner)
    assert shown["metadata"] == {"ticket": "7", "user": "ada"}


@pytest.mark.parametrize(
    ("model", "backend", "asked"),
    [
        ("codex", "codex", None),
        ("claude/opus", "claude", "opus"),
        ("opus", "claude", "opus"),
        ("default", "claude", None),
        ("gpt-4o", "codex", None),
        ("cheap", "claude", "haiku"),
    ],
)
async def test_a_model_is_a_backend_one_of_its_models_or_an_alias(
    world: World, model: str, backend: str, asked: str | None
) -> None:
    aliases = {"gpt-4o": "codex", "cheap": "claude/haiku"}
    async with sdk(world, server__model_aliases=aliases) as (client, _):
        got = await client.chat.completions.create(model=model, messages=user("hi"))
        named = await client.models.retrieve(model) if model != "default" else None
    argv = world.calls(backend)[0]["argv"]
    assert got.model.partition("/")[0] == backend
    assert [word for word in argv if word.startswith("--model")] == ([f"--model={asked}"] if asked else [])
    assert named is None or named.owned_by == backend


@pytest.mark.parametrize("model", ["nope", "claude/", "/opus", "", "Claude"])
async def test_an_unknown_model_is_not_found(world: World, model: str) -> None:
    async with sdk(world) as (client, _):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=model, messages=user("hi"))
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")


async def test_an_alias_for_nothing_spoils_no_other_model(world: World) -> None:
    aliases = {"bad": "nope", "off": "gemini", "good": "claude/opus"}
    flags: Any = {"server__model_aliases": aliases, "backends__gemini__enabled": False}
    async with sdk(world, **flags) as (client, _):
        names = {model.id async for model in client.models.list()}
        for name, why in (("bad", "no model 'nope', for which the alias 'bad' stands"), ("off", "cannot be used here")):
            with pytest.raises(openai.NotFoundError, match=why):
                await client.models.retrieve(name)
    assert names & {*aliases, "claude"} == {"good", "claude"}


async def test_models_lists_what_can_be_used(world: World) -> None:
    async with sdk(world, backends__codex__enabled=False) as (client, _):
        listed = [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")
    assert {"claude", "gemini", "offline", "claude/opus"} <= set(listed)
    assert "codex" not in listed


async def test_an_answer_longer_than_other_doors_show_is_whole(world: World) -> None:
    async with sdk(world, output__max_chars=1000) as (client, _):
        got = await client.chat.completions.create(model="offline", messages=user("offline:chars=300000"))
    assert len(got.choices[0].message.content or "") == 300_000


async def test_an_answer_that_takes_too_long_is_given_up_with_its_run(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"say": "this far"}, {"reach": str(here)}, {"hang": True})
    async with sdk(world, server__request_timeout_secs=1.0) as (client, server), anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(openai.InternalServerError, match="no answer within 1 s") as caught:
                await client.chat.completions.create(model="claude", messages=user(asked))
            ended = await server.client.get(f"/api/v1/runs/{caught.value.response.headers['x-clinvk-run']}")
            assert ended.json()["result"]["output"] == "this far"

        tasks.start_soon(ask)
        world.processes.watch_agent(await here.reached())
        await world.processes.ended()


async def test_a_client_that_leaves_cancels_its_run(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"say": "x"}, {"reach": str(here)}, {"hang": True})
    async with sdk(world) as (client, _):
        stream = await client.chat.completions.create(model="claude", messages=user(asked), stream=True)
        world.processes.watch_agent(await here.reached())
        await stream.close()
        await world.processes.ended()
