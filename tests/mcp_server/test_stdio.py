import json
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from mcp_fakes.raw_client import FAKE_SERVER, MODERN_META, RawClient, environment, exists, handshake, started

pytestmark = pytest.mark.anyio

DEADLINE = 30  # the SDK alone takes a second to import on a busy machine
NAMES = ["prompt", "parallel", "chain", "compare", "sessions", "session_edit", "runs", "cancel", "backends"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


async def open_era(client: RawClient, era: str) -> dict[str, object]:
    """Open a connection; answers with the `_meta` that every request of the era carries."""
    if era == "modern":
        await client.request("probe", "server/discover", {"_meta": MODERN_META})
        return {"_meta": MODERN_META}
    await client.initialize()
    return {}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_handshake_version_is_answered_and_served(version: str) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            answer = await client.initialize(version)
            assert answer["result"]["protocolVersion"] == version
            tools = (await client.request("tools", "tools/list"))["result"]["tools"]
            assert [tool["name"] for tool in tools] == NAMES
            await client.call(1, "prompt", {"prompt": "echo hello"})
            result = (await client.answer(1))["result"]
            assert result["content"][0]["text"].startswith("hello")


async def test_the_version_without_handshake_is_served() -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            tools = await client.request(0, "tools/list", {"_meta": MODERN_META})
            assert [tool["name"] for tool in tools["result"]["tools"]] == NAMES
            await client.call(1, "prompt", {"prompt": "echo hello"}, _meta=MODERN_META)
            result = (await client.answer(1))["result"]
            assert (result["resultType"], result["structuredContent"]["output"]) == ("complete", "hello")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_cancelled_call_is_cancelled_and_never_answered(era: str, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            meta = await open_era(client, era)
            await client.call(7, "prompt", {"prompt": "wait", "workdir": str(tmp_path)}, **meta)
            await exists(tmp_path / "waiting")
            await client.send({"method": "notifications/cancelled", "params": {"requestId": 7}})
            await exists(tmp_path / "cancelled")
            await client.call(8, "prompt", {"prompt": "echo on"}, **meta)
            await client.answer(8)
            assert [message for message in client.other if message.get("id") == 7] == []


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_end_of_input_cancels_what_runs_and_exits_with_0(era: str, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            meta = await open_era(client, era)
            await client.call(7, "prompt", {"prompt": "wait", "workdir": str(tmp_path)}, **meta)
            await exists(tmp_path / "waiting")
            await client.close_stdin()
            assert await client.process.wait() == 0
    assert (tmp_path / "cancelled").exists()


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_cancels_what_runs_and_exits_with_0(number: signal.Signals, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.call(7, "prompt", {"prompt": "wait", "workdir": str(tmp_path)})
            await exists(tmp_path / "waiting")
            client.process.send_signal(number)
            assert await client.process.wait() == 0
    assert (tmp_path / "cancelled").exists()


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_second_signal_ends_a_server_that_hangs_in_its_cleanup(number: signal.Signals, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.call(7, "prompt", {"prompt": "stubborn", "workdir": str(tmp_path)})
            await exists(tmp_path / "waiting")
            client.process.send_signal(number)
            await exists(tmp_path / "cancelled")
            client.process.send_signal(number)
            assert await client.process.wait() == 128 + number


_KILLED_AT_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            os.kill(os.getpid(), SIGNAL)
sys.meta_path.insert(0, Finder())
sys.argv = ["clinvk", "mcp"]
from clinvk.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["clinvk.cli", "mcp"])
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_while_the_server_starts_exits_with_0(number: signal.Signals, module: str) -> None:
    code = _KILLED_AT_IMPORT.replace("MODULE", repr(module)).replace("SIGNAL", f"{number:d}")
    with anyio.fail_after(DEADLINE):
        done = await anyio.run_process([sys.executable, "-c", code], env=environment(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_client_that_stops_reading_ends_the_server() -> None:
    reading, writing = os.pipe()
    with anyio.fail_after(DEADLINE):
        async with await anyio.open_process(FAKE_SERVER, stdout=writing, env=environment()) as process:
            os.close(writing)
            os.close(reading)
            assert process.stdin is not None
            question = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": handshake()}
            await process.stdin.send(json.dumps(question).encode() + b"\n")
            assert await process.wait() == 0


async def test_what_is_printed_never_reaches_the_client() -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.call(1, "prompt", {"prompt": "print noise"})
            answer = await client.answer(1)
            assert answer["result"]["structuredContent"]["output"] == "noise"
            assert client.other == []


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_a_probe_followed_by_a_handshake_is_served(version: str) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.send({"id": 0, "method": "server/discover", "params": {"_meta": MODERN_META}})
            await client.send({"id": 1, "method": "initialize", "params": handshake(version)})
            assert "2026-07-28" in (await client.answer(0))["result"]["supportedVersions"]
            assert (await client.answer(1))["result"]["protocolVersion"] == version
            await client.send({"method": "notifications/initialized"})
            await client.call(2, "prompt", {"prompt": "echo hello"})
            assert (await client.answer(2))["result"]["structuredContent"]["output"] == "hello"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "prompt", "arguments": "x"}, "arguments must be an object, and is 'x'"),
        ({"name": 5}, f"name must be the name of a tool, one of {', '.join(NAMES)}"),
        ({}, f"name must be the name of a tool, one of {', '.join(NAMES)}"),
    ],
)
async def test_a_call_that_is_none_is_told_why(params: dict[str, object], message: str) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            error = (await client.request(1, "tools/call", params))["error"]
    assert (error["code"], error["message"]) == (-32602, message)


async def test_many_calls_are_served_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            for number, folder in enumerate(folders):
                folder.mkdir()
                await client.call(number, "prompt", {"prompt": "wait", "workdir": str(folder)})
            for folder in folders:
                await exists(folder / "waiting")
            assert (await client.request("ping", "ping"))["result"] == {}


async def test_a_message_over_the_limit_is_refused_by_its_id_and_the_next_is_served() -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.call("big", "prompt", {"prompt": "x" * (65 << 20)})
            assert "64 MiB" in (await client.answer("big"))["error"]["message"]
            await client.call(2, "prompt", {"prompt": "echo hello"})
            assert (await client.answer(2))["result"]["structuredContent"]["output"] == "hello"


async def test_a_message_of_some_megabytes_arrives_whole_and_comes_back_whole() -> None:
    text = "ä" * (3 << 20)
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.call(1, "prompt", {"prompt": f"echo {text}"})
            assert (await client.answer(1))["result"]["structuredContent"]["output"] == text


async def test_lines_that_are_no_messages_are_skipped() -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            for line in (b"garbage", b"", b"{}", b"[]", b"\xff\xfe", b"null"):
                await client.send_line(line)
            assert "result" in await client.initialize()
            await client.send_line(b"garbage")
            assert "result" in await client.request(1, "ping")


async def test_input_and_output_may_be_files(tmp_path: Path) -> None:
    question = tmp_path / "in"
    question.write_text(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": handshake()}) + "\n")
    answer = tmp_path / "out"
    with anyio.fail_after(DEADLINE), question.open("rb") as stdin, answer.open("wb") as stdout:
        done = await anyio.run_process(FAKE_SERVER, stdin=stdin, stdout=stdout, env=environment())
    assert done.returncode == 0
    assert json.loads(answer.read_text(encoding="utf-8"))["result"]["serverInfo"]["name"] == "clinvk"


async def test_a_server_with_nobody_at_the_other_end_ends_at_once() -> None:
    with anyio.fail_after(DEADLINE):
        done = await anyio.run_process(FAKE_SERVER, input=b"", env=environment())
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("damaged", [b"a\xff\xfeb", b"a\\ud800b"], ids=["invalid UTF-8", "lone surrogate"])
async def test_a_request_with_damaged_text_is_answered_and_the_next_one_served(damaged: bytes) -> None:
    call = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"prompt","arguments":{"prompt":"%s"}}}'
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.send_line(call % damaged)
            error = (await client.answer(7))["error"]
            assert (error["code"], error["data"]["error"]["code"]) == (-32600, "invalid_request")
            assert error["data"]["error"]["hint"]
            await client.call(8, "prompt", {"prompt": "echo on"})
            assert (await client.answer(8))["result"]["structuredContent"]["output"] == "on"


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"prompt","arguments":{"prompt":"x"}',
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
    ids=["cut short", "nested too deeply"],
)
async def test_a_request_that_cannot_be_read_is_answered(line: bytes) -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            await client.send_line(line)
            assert (await client.answer(7))["error"]["code"] == -32600
            assert "result" in await client.request(8, "ping")


async def test_every_request_of_an_array_is_answered() -> None:
    both = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (7, 8)]
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize("2025-03-26")
            await client.send_line(json.dumps([*both, 1, {"jsonrpc": "2.0", "method": "notifications/x"}]).encode())
            assert [(await client.answer(number))["result"] for number in (7, 8)] == [{}, {}]


async def test_what_is_no_request_gets_no_answer() -> None:
    with anyio.fail_after(DEADLINE):
        async with started() as client:
            await client.initialize()
            for line in (
                b"not json",
                b"[]",
                b'{"jsonrpc":"2.0","id":9}',
                b'{"method":"x\xff"}',
                b'{"id":[],"method":1}',
            ):
                await client.send_line(line)
            assert "result" in await client.request(8, "ping")
            assert [message for message in client.other if "error" in message] == []
