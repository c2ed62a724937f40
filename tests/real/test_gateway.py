"""`clinvk serve` as users have it: real CLIs behind it; the official SDKs, curl and an MCP client before it."""

import base64
import json
import signal
import struct
import sys
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import anthropic
import anyio
import openai
import pytest
from anthropic import AsyncAnthropic
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from openai import AsyncOpenAI

from real.clients import BACKENDS, DEADLINE, Json, Place
from real.processes import agents_ended
from standin.environment import MODELS
from standin.script import Answer, HttpError, Recorded, Script, Usage

pytestmark = pytest.mark.anyio

COMMAND = (sys.executable, "-m", "clinvk", "serve", "--port=0")
HI: Any = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway process and where it listens."""

    url: str
    place: Place

    def plays(self, *replies: Any) -> None:
        """What the model says from now on: these replies in turn, the last one for ever."""
        self.place.standin.requests.clear()
        self.place.standin.script = Script(queue=replies[:-1], default=replies[-1])

    def openai(self) -> AsyncOpenAI:
        """The official client."""
        return AsyncOpenAI(base_url=f"{self.url}/openai/v1", api_key="any", max_retries=0, timeout=DEADLINE)

    def anthropic(self) -> AsyncAnthropic:
        """The official client."""
        return AsyncAnthropic(base_url=f"{self.url}/anthropic", api_key="any", max_retries=0, timeout=DEADLINE)


@pytest.fixture(scope="module")
async def gateway(where: Place) -> AsyncGenerator[Serving]:
    log = where.root / "gateway.log"
    async with await anyio.open_process(COMMAND, env=where.environ, cwd=where.workdir, stdin=None) as process:
        try:
            assert process.stderr is not None
            errors = BufferedByteReceiveStream(process.stderr)
            with anyio.fail_after(DEADLINE):
                line = await errors.receive_until(b"\n", 4096)

            async def drain() -> None:
                async for chunk in errors:
                    log.write_bytes(chunk)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain)
                yield Serving(line.decode().rpartition(" ")[2], where)
                process.send_signal(signal.SIGTERM)
                with anyio.fail_after(DEADLINE):
                    assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
    await agents_ended(where.home)


def png() -> bytes:
    """A picture of one pixel, valid in every checksum."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("backend", BACKENDS)
async def test_openais_sdk_talks_to_every_real_cli(gateway: Serving, backend: str) -> None:
    gateway.plays(Answer("forty-two", usage=Usage(input=100, cached=40, output=9)))
    async with gateway.openai() as client:
        got = await client.chat.completions.create(model=backend, messages=HI)
        stream = await client.chat.completions.create(
            model=backend, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert got.choices[0].message.content == "forty-two"
    assert got.usage is not None
    assert got.usage.completion_tokens == 9
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "forty-two"
    assert chunks[-1].usage == got.usage


@pytest.mark.parametrize("backend", BACKENDS)
async def test_anthropics_sdk_talks_to_every_real_cli(gateway: Serving, backend: str) -> None:
    gateway.plays(Answer("forty-two"))
    asked: Any = {"model": f"{backend}/{MODELS[backend]}", "max_tokens": 100, "system": "be brief", "messages": HI}
    async with gateway.anthropic() as client:
        create: Any = client.messages.create
        got = await create(**asked)
        async with client.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
    assert [block.text for block in got.content if block.type == "text"] == ["forty-two"]
    assert [block.text for block in final.content if block.type == "text"] == ["forty-two"]
    assert got.model == f"{backend}/{MODELS[backend]}"
    assert "be brief" in json.dumps([request.body for request in gateway.place.standin.questions])


@pytest.mark.parametrize("backend", ["claude", "codex"])
async def test_a_picture_reaches_the_model(gateway: Serving, backend: str) -> None:
    gateway.plays(Answer("a red dot"))
    data = base64.b64encode(png()).decode()
    parts: Any = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    async with gateway.openai() as client:
        got = await client.chat.completions.create(model=backend, messages=[{"role": "user", "content": parts}])
    [request] = gateway.place.standin.questions
    assert got.choices[0].message.content == "a red dot"
    assert any(kind in json.dumps(request.body) for kind in ('"image"', "input_image"))


async def test_a_pinned_session_goes_on_in_the_clis_own_conversation(gateway: Serving) -> None:
    gateway.plays(Answer("hello Ada"), Answer("you are Ada"))
    async with gateway.openai() as client:
        first = await client.chat.completions.with_raw_response.create(
            model="claude", messages=[{"role": "user", "content": "I am Ada"}]
        )
        pinned = {"X-Clinvk-Session": first.headers["x-clinvk-session"]}
        got = await client.chat.completions.create(
            model="claude", messages=[{"role": "user", "content": "who am I?"}], extra_headers=pinned
        )
    sent = json.dumps(gateway.place.standin.questions[-1].body)
    assert got.choices[0].message.content == "you are Ada"
    assert sent.index("I am Ada") < sent.index("hello Ada") < sent.index("who am I?")


async def test_failures_of_the_model_are_the_sdks_own_exceptions(gateway: Serving) -> None:
    async with gateway.openai() as client, gateway.anthropic() as other:
        gateway.plays(HttpError(429, retry_after=17))
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="claude", messages=HI)
        gateway.plays(HttpError(401))
        with pytest.raises(openai.InternalServerError) as logged_out:
            await client.chat.completions.create(model="codex", messages=HI)
        gateway.plays(HttpError(404, message="model: nope"))
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.create(model="claude/nope", max_tokens=1, messages=HI)
        gateway.plays(HttpError(529))
        with pytest.raises(anthropic.InternalServerError) as overloaded:
            await other.messages.create(model="claude", max_tokens=1, messages=HI)
        with pytest.raises(openai.RateLimitError) as too_much:
            await client.chat.completions.create(model="claude", messages=HI)
    assert "retry-after" in limited.value.response.headers
    assert (overloaded.value.status_code, overloaded.value.type) == (529, "overloaded_error")
    assert "Overloaded" in overloaded.value.message
    assert "retry-after" in overloaded.value.response.headers
    assert (too_much.value.code, "retry-after" in too_much.value.response.headers) == ("overloaded", True)
    assert (logged_out.value.status_code, logged_out.value.code) == (503, "auth_required")


async def curl(*words: str) -> str:
    with anyio.fail_after(DEADLINE):
        ended = await anyio.run_process(("curl", "-sSN", *words))
    return ended.stdout.decode()


async def test_curl_prompts_streams_and_fetches(gateway: Serving) -> None:
    gateway.plays(Answer("forty-two"))
    where = f"{gateway.url}/api/v1"
    kind = ("-H", "Content-Type: application/json")

    def body(**more: Any) -> tuple[str, str]:
        return "-d", json.dumps({"prompt": "hi", "backend": "codex", **more})

    result: Json = json.loads(await curl(f"{where}/prompt", *kind, *body()))
    lines = [
        json.loads(line)
        for line in (await curl(f"{where}/prompt", *kind, *body(output_format="stream-json"))).splitlines()
    ]
    events = await curl(f"{where}/prompt", *kind, *body(), "-H", "Accept: text/event-stream")
    head = await curl(f"{where}/prompt", *kind, *body(), "-H", "Prefer: respond-async", "-D", "-", "-o", "/dev/null")
    location = next(line.split()[1] for line in head.splitlines() if line.lower().startswith("location:"))
    replayed = await curl(f"{gateway.url}{location}/events")
    shown: Json = json.loads(await curl(f"{gateway.url}{location}?wait_secs=60"))
    assert result["output"] == lines[-1]["output"] == shown["result"]["output"] == "forty-two"
    assert head.startswith("HTTP/1.1 202")
    assert "event: result\n" in events
    assert replayed.rstrip().splitlines()[-2] == "event: run_finished", replayed


async def test_compare_asks_all_of_them_at_once(gateway: Serving) -> None:
    def reply(request: Recorded) -> Answer:
        return Answer(f"I am {request.api}")

    gateway.place.standin.requests.clear()
    gateway.place.standin.script = Script(reply_to=reply)
    asked = ("-H", "Content-Type: application/json", "-d", json.dumps({"prompt": "who?", "backends": list(BACKENDS)}))
    got: Json = json.loads(await curl(f"{gateway.url}/api/v1/compare", *asked))
    assert [part["output"] for part in got["results"]] == ["I am anthropic", "I am openai", "I am gemini"]


async def test_mcp_is_served_beside_it_over_the_same_runs(gateway: Serving) -> None:
    gateway.plays(Answer("forty-two"))
    with anyio.fail_after(DEADLINE):
        async with Client(f"{gateway.url}/mcp") as client:
            answer = await client.call_tool("prompt", {"prompt": "hi", "backend": "codex"})
    assert answer.structured_content is not None
    run_id: str = answer.structured_content["run_id"]
    shown: Json = json.loads(await curl(f"{gateway.url}/api/v1/runs/{run_id}"))
    assert shown["result"]["output"] == "forty-two"
