"""The gateway as a process: how it starts, stops and logs."""

import json
import signal
from pathlib import Path

import anyio
import httpx2
import pytest

from cli_terminal import run
from fakes import agent
from fakes.world import PATIENCE_SECS, World
from gateway_fakes.server import DEADLINE, LAUNCH, SOURCE, Json, Served, events, gateway, served

pytestmark = pytest.mark.anyio

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def client_of(server: Served) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, timeout=DEADLINE)


@pytest.mark.parametrize("number", STOPPING)
async def test_a_signal_ends_an_idle_server_with_0(world: World, number: signal.Signals) -> None:
    with anyio.fail_after(DEADLINE):
        async with served(world) as server, client_of(server) as client:
            assert (await client.get("/health")).status_code == 200
            server.signal(number)
            assert await server.process.wait() == 0


async def test_who_waits_when_the_server_stops_still_gets_what_there_is(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"say": "so far"}, {"reach": str(here)}, {"hang": True})
    answers: list[httpx2.Response] = []
    with anyio.fail_after(DEADLINE):
        async with served(world) as server, client_of(server) as client:

            async def post() -> None:
                answers.append(await client.post("/api/v1/prompt", json={"prompt": asked, "backend": "claude"}))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                world.processes.watch_agent(await here.reached())
                server.signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            await world.processes.ended()
    answer = answers[0].json()
    assert (answers[0].status_code, answer["error"]["code"]) == (429, "overloaded")
    assert "shutting down" in answer["error"]["message"]
    assert int(answers[0].headers["retry-after"]) > 0
    assert (answer["status"], answer["partial"], answer["output"]) == ("cancelled", True, "so far")
    waited = run(world, "runs", "wait", answer["run_id"])
    assert (waited.returncode, waited.stdout) == (7, "so far\n")


@pytest.mark.parametrize("path", ["/api/v1/prompt", "/api/v1/chain", "/openai/v1/chat/completions"])
async def test_client_log_audit_and_record_agree_on_what_stopping_ended(world: World, path: str) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"reach": str(here)}, {"hang": True})
    bodies: dict[str, Json] = {
        "/api/v1/prompt": {"prompt": asked, "backend": "claude"},
        "/api/v1/chain": {"steps": [{"prompt": asked, "backend": "claude"}]},
        "/openai/v1/chat/completions": {"model": "claude", "messages": [{"role": "user", "content": asked}]},
    }
    answers: list[httpx2.Response] = []
    with anyio.fail_after(DEADLINE):
        async with served(world) as server, client_of(server) as client:

            async def post() -> None:
                answers.append(await client.post(path, json=bodies[path]))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                await here.reached()
                server.signal(signal.SIGTERM)
            assert await server.process.wait() == 0
    answer = answers[0]
    run_id = answer.headers["x-clinvk-run"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    logged = [json.loads(line) for line in server.log.splitlines()[1:]]
    [line] = [line for line in logged if line.get("run_id") == run_id]
    assert (line["message"].rpartition(" ")[2], line["outcome"], line["error_code"]) == (
        "429",
        "cancelled",
        "overloaded",
    )
    audit = [json.loads(line) for line in (world.home / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(line["type"], line["run_id"], line["outcome"], line["error_code"]) for line in audit} == {
        ("request", run_id, "cancelled", "overloaded"),
        ("run", run_id, "cancelled", "overloaded"),
    }
    record = json.loads((world.home / "runs" / run_id / "result.json").read_text(encoding="utf-8"))
    assert (record["status"], record["error"]["code"]) == ("cancelled", "overloaded")


async def test_a_body_that_still_arrives_when_the_server_stops_is_not_waited_for(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with gateway(world) as server:
            host, _, port = server.url.removeprefix("http://").partition(":")
            async with await anyio.connect_tcp(host, int(port)) as stream:
                head = b"POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
                await stream.send(head + b"Expect: 100-continue\r\n\r\n")
                assert b"100 Continue" in await stream.receive()  # it is waited for now
                server.drain.close()
                told = await stream.receive()
    assert told.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: " in told


async def test_streams_are_told_and_handed_out_runs_go_on(world: World) -> None:
    gate, here = world.fifo("gate"), world.fifo("here")
    handed = agent.prompt({"say": "x"}, {"wait": str(gate)}, {"say": "y"})
    waited = agent.prompt({"say": "z"}, {"reach": str(here)}, {"hang": True})
    told: list[Json] = []
    lines: list[Json] = []
    with anyio.fail_after(DEADLINE):
        async with served(world) as server, client_of(server) as client:
            run_id = (
                await client.post("/api/v1/prompt", json={"prompt": handed, "backend": "claude", "background": True})
            ).json()["run_id"]

            async def listen() -> None:
                async with client.stream("GET", f"/api/v1/runs/{run_id}/events") as response:
                    told.extend([event async for event in events(response)])

            async def stream() -> None:
                body = {"prompt": waited, "backend": "claude", "output_format": "stream-json"}
                async with client.stream("POST", "/api/v1/prompt", json=body) as response:
                    lines.extend([json.loads(line) async for line in response.aiter_lines()])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                tasks.start_soon(stream)
                await here.reached()
                server.signal(signal.SIGTERM)
            assert await server.process.wait() == 0
    assert told[-1]["data"]["error"]["code"] == "overloaded"
    assert [line["type"] for line in lines[-2:]] == ["error", "result"]
    assert (lines[-1]["status"], lines[-1]["output"]) == ("cancelled", "z")
    await gate.release()
    async with gateway(world) as after:
        shown = await after.client.get(f"/api/v1/runs/{run_id}", params={"wait_secs": PATIENCE_SECS})
    assert shown.json()["result"]["output"] == "xy"


async def test_mcp_is_served_in_the_same_application_and_stops_with_it(world: World) -> None:
    meta = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": meta}
    accept = {"Accept": "application/json, text/event-stream"}
    here = world.fifo("here")
    asked = {"prompt": agent.prompt({"reach": str(here)}, {"hang": True}), "backend": "claude"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "prompt", "arguments": asked}}
    with anyio.fail_after(DEADLINE):
        async with served(world, "mcp", CLINVK_API_KEYS="k") as server, client_of(server) as client:
            assert (await client.post("/mcp", json=hello, headers=accept)).status_code == 401
            client.headers["X-Api-Key"] = "k"
            answer = await client.post("/mcp", json=hello, headers=accept)
            assert answer.status_code == 200
            session = {
                **accept,
                "Mcp-Session-Id": answer.headers["mcp-session-id"],
                "MCP-Protocol-Version": "2025-11-25",
            }
            assert (await client.get("/mcp", headers=accept)).status_code == 405

            async def post() -> None:
                await client.post("/mcp", json=call, headers=session)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                world.processes.watch_agent(await here.reached())
                server.signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            await world.processes.ended()


async def test_the_log_is_json_with_ids_and_without_secrets(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with served(world, CLINVK_API_KEYS="top-secret") as server, client_of(server) as client:
            client.headers["X-Api-Key"] = "top-secret"
            body = {"prompt": "private words", "backend": "claude"}
            answer = await client.post(
                "/api/v1/prompt?api_key=top-secret", json=body, headers={"X-Request-Id": "req-7"}
            )
            server.signal(signal.SIGTERM)
            await server.process.wait()
    text = server.log.decode()
    line = json.loads(text.splitlines()[1])
    assert (line["request_id"], line["run_id"], line["who"]) == ("req-7", answer.json()["run_id"], "key 1")
    assert line["message"] == "POST /api/v1/prompt 200"
    assert "private words" not in text
    assert "top-secret" not in text


async def test_an_address_in_use_is_told_with_where_it_is_configured(world: World) -> None:
    with anyio.fail_after(DEADLINE):
        async with served(world) as server:
            port = server.url.rpartition(":")[2]
            env = {**world.environ, "PYTHONPATH": str(SOURCE)}
            ended = await anyio.run_process((*LAUNCH, f"server.port={port}"), env=env, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1 port {port} is in use; choose another port".encode() in ended.stderr


BATCHING = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr), schedule_delay_millis=3_600_000))
trace.set_tracer_provider(provider)
"""


async def test_spans_that_an_sdk_has_not_sent_yet_are_sent_at_the_end(world: World, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BATCHING, encoding="utf-8")
    with anyio.fail_after(DEADLINE):
        async with served(world, PYTHONPATH=f"{tmp_path}:{SOURCE}") as server, client_of(server) as client:
            await client.get("/health")
            assert b"GET /health" not in server.log.replace(b"GET /health 200", b"")
            server.signal(signal.SIGTERM)
            assert await server.process.wait() == 0
    assert b'"name": "GET /health"' in server.log
