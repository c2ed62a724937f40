import signal
from pathlib import Path

import anyio
import httpx2
import pytest

from clinvk.web import keys
from fakes import agent
from fakes.world import World
from mcp_fakes.http_server import ACCEPT, FAKE_SERVER, REAL_SERVER, call, messages, opened, serving
from mcp_fakes.raw_client import environment, exists, handshake

pytestmark = pytest.mark.anyio

DEADLINE = 30
KEYS = {"CLINVK_API_KEYS": "first-key, second-key"}
INITIALIZE = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": handshake()}


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_cancels_what_runs_and_exits_with_0(
    number: signal.Signals, modern: bool, tmp_path: Path
) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=modern)
            answers: list[httpx2.Response] = []

            async def post() -> None:
                message = call(1, {"prompt": "wait", "workdir": str(tmp_path)}, modern=modern)
                answers.append(await client.post(server.url, json=message, headers=headers))

            async with anyio.create_task_group() as group:
                group.start_soon(post)
                await exists(tmp_path / "waiting")
                server.process.send_signal(number)
            assert await server.process.wait() == 0
    assert (tmp_path / "cancelled").exists()
    assert messages(answers[0])[-1]["error"]["message"] == "server is shutting down"


async def test_an_idle_stream_does_not_hold_up_the_shutdown() -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=False)
            async with client.stream("GET", server.url, headers=headers) as stream:
                assert stream.status_code == 200
                server.process.send_signal(signal.SIGTERM)
                assert await server.process.wait() == 0


@pytest.mark.parametrize("modern", [False, True])
async def test_a_client_that_leaves_cancels_its_call(modern: bool, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=modern)
            message = call(1, {"prompt": "wait", "workdir": str(tmp_path)}, modern=modern)
            async with anyio.create_task_group() as group:

                async def post() -> None:
                    await client.post(server.url, json=message, headers=headers)

                group.start_soon(post)
                await exists(tmp_path / "waiting")
                group.cancel_scope.cancel()
            await exists(tmp_path / "cancelled")


async def test_a_client_of_2025_cancels_by_notification(tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=False)
            message = call(1, {"prompt": "wait", "workdir": str(tmp_path)}, modern=False)
            async with anyio.create_task_group() as group:

                async def post() -> None:
                    await client.post(server.url, json=message, headers=headers)

                group.start_soon(post)
                await exists(tmp_path / "waiting")
                cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
                assert (await client.post(server.url, json=cancel, headers=headers)).status_code == 202
                await exists(tmp_path / "cancelled")


async def test_ending_a_session_cancels_its_calls_and_forgets_it(tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient(timeout=DEADLINE) as client:
            headers = await opened(client, server.url, modern=False)
            message = call(1, {"prompt": "wait", "workdir": str(tmp_path)}, modern=False)
            async with anyio.create_task_group() as group:

                async def post() -> None:
                    await client.post(server.url, json=message, headers=headers)

                group.start_soon(post)
                await exists(tmp_path / "waiting")
                assert (await client.delete(server.url, headers=headers)).status_code == 200
                await exists(tmp_path / "cancelled")
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            assert (await client.post(server.url, json=ping, headers=headers)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_without_a_session_are_not_allowed(method: str) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving() as server, httpx2.AsyncClient() as client:
            answer = await client.request(method, server.url, headers=ACCEPT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_strange_hosts_and_origins_are_refused_on_every_route() -> None:
    command = (*REAL_SERVER, "mcp.expose_health=true")
    with anyio.fail_after(DEADLINE):
        async with serving(command) as server, httpx2.AsyncClient() as client:
            port = server.base.rpartition(":")[2]
            status: dict[str, list[int]] = {}
            for name, header in {
                "evil host": {"Host": "evil.com"},
                "rebound host": {"Host": f"evil.com:{port}"},
                "evil origin": {"Origin": "http://evil.com"},
                "opaque origin": {"Origin": "null"},
                "own origin": {"Origin": f"http://localhost:{port}"},
                "host without port": {"Host": "localhost"},
            }.items():
                health = await client.get(server.base + "/health", headers=header)
                mcp = await client.post(server.url, json=INITIALIZE, headers={**ACCEPT, **header})
                status[name] = [health.status_code, mcp.status_code]
    assert status == {
        "evil host": [421, 421],
        "rebound host": [421, 421],
        "evil origin": [403, 403],
        "opaque origin": [403, 403],
        "own origin": [200, 200],
        "host without port": [200, 200],
    }


async def test_with_keys_every_route_but_health_needs_one() -> None:
    command = (*REAL_SERVER, "mcp.expose_health=true")
    with anyio.fail_after(DEADLINE):
        async with serving(command, env=environment(**KEYS)) as server, httpx2.AsyncClient() as client:
            status: dict[str, int] = {}
            for name, header in {
                "none": {},
                "wrong": {"X-Api-Key": "first-ke"},
                "both joined": {"X-Api-Key": KEYS["CLINVK_API_KEYS"]},
                "basic": {"Authorization": "Basic first-key"},
                "first": {"X-Api-Key": "first-key"},
                "second": {"Authorization": "Bearer second-key"},
            }.items():
                answer = await client.post(server.url, json=INITIALIZE, headers={**ACCEPT, **header})
                status[name] = answer.status_code
            elsewhere = await client.get(server.base + "/elsewhere")
            health = await client.get(server.base + "/health")
    assert status == {"none": 401, "wrong": 401, "both joined": 401, "basic": 401, "first": 200, "second": 200}
    assert (elsewhere.status_code, health.status_code) == (401, 200)


async def test_a_session_belongs_to_the_key_that_opened_it() -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(env=environment(**KEYS)) as server, httpx2.AsyncClient() as client:
            client.headers["X-Api-Key"] = "first-key"
            headers = await opened(client, server.url, modern=False)
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            assert (await client.post(server.url, json=ping, headers=headers)).status_code == 200
            stolen = {**headers, "X-Api-Key": "second-key"}
            assert (await client.post(server.url, json=ping, headers=stolen)).status_code == 404


@pytest.mark.parametrize("modern", [False, True])
async def test_the_same_request_with_another_key_is_another_request(world: World, modern: bool) -> None:
    given = {"prompt": agent.prompt({"hang": True}), "backend": "claude", "wait_secs": 0}
    runs: list[str] = []
    with anyio.fail_after(DEADLINE):
        async with serving(REAL_SERVER, env=environment(**world.environ, **KEYS)) as server:
            for key in ("first-key", "first-key", "second-key"):
                async with httpx2.AsyncClient(headers={"X-Api-Key": key}, timeout=DEADLINE) as client:
                    headers = await opened(client, server.url, modern=modern)
                    answer = await client.post(server.url, json=call(1, given, modern=modern), headers=headers)
                    runs.append(messages(answer)[-1]["result"]["structuredContent"]["run_id"])
            async with httpx2.AsyncClient(headers={"X-Api-Key": "first-key"}, timeout=DEADLINE) as client:
                headers = await opened(client, server.url, modern=False)
                for run_id in runs:
                    message = call(2, {"run_id": run_id}, modern=False)
                    message["params"]["name"] = "cancel"
                    await client.post(server.url, json=message, headers=headers)
    assert runs[0] == runs[1] != runs[2]


async def test_health_tells_of_backends_and_sessions() -> None:
    command = (*REAL_SERVER, "mcp.expose_health=true")
    with anyio.fail_after(DEADLINE):
        async with serving(command, env=environment(PATH="/nowhere")) as server, httpx2.AsyncClient() as client:
            report = (await client.get(server.base + "/health")).json()
    assert report.pop("uptime_ms") >= 0
    assert report.pop("version")
    assert report == {
        "status": "degraded",
        "reason": "no agent CLI is installed and enabled",
        "backends": [{"name": name, "available": False} for name in ("claude", "codex", "gemini")],
        "session_store": {"status": "ok", "sessions": 0},
    }


async def test_keys_that_become_unreadable_are_told_by_health(world: World) -> None:
    keys.create(world.home, "alice")
    command = (*REAL_SERVER, "mcp.expose_health=true")
    with anyio.fail_after(DEADLINE):
        async with serving(command, env=environment(**world.environ)) as server, httpx2.AsyncClient() as client:
            (world.home / keys.FILE).write_text("{", encoding="utf-8")
            answer = await client.get(server.base + "/health")
    reason = "the API keys cannot be read, so that nobody is let in"
    assert (answer.status_code, answer.json()["reason"]) == (503, reason)


async def test_health_is_served_only_when_asked_for() -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(REAL_SERVER) as server, httpx2.AsyncClient() as client:
            assert (await client.get(server.base + "/health")).status_code == 404


async def test_a_request_body_over_the_limit_is_refused() -> None:
    command = (*FAKE_SERVER, "server.max_request_body_bytes=1000")
    with anyio.fail_after(DEADLINE):
        async with serving(command) as server, httpx2.AsyncClient() as client:
            answer = await client.post(server.url, content=b"x" * 1001, headers=ACCEPT)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("flags", "keys", "told"),
    [
        (["mcp.host=0.0.0.0"], {}, "policy_denied: refused to listen on 0.0.0.0"),
        (["mcp.host='::'"], {}, "policy_denied: refused to listen on ::"),
        (["server.cors_allowed_origins=['*']"], {}, "policy_denied: refused to let every web page call"),
        (["mcp.host=127.0.0.1"], {"CLINVK_API_KEYS": " , "}, "policy_denied: CLINVK_API_KEYS is set but holds no key"),
        (["mcp.host=192.0.2.1"], KEYS, "192.0.2.1 port 0 cannot be had"),
        (["mcp.http_path=/health", "mcp.expose_health=true"], {}, "/health is the path of the health report"),
    ],
)
async def test_what_cannot_be_served_safely_is_refused_at_the_start(
    flags: list[str], keys: dict[str, str], told: str
) -> None:
    with anyio.fail_after(DEADLINE):
        done = await anyio.run_process([*REAL_SERVER, *flags], env=environment(**keys), check=False)
    assert (done.returncode, told in done.stderr.decode()) == (3, True), done.stderr


async def test_a_port_in_use_is_named() -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(REAL_SERVER) as server:
            port = server.base.rpartition(":")[2]
            done = await anyio.run_process([*REAL_SERVER, f"mcp.port={port}"], env=environment(), check=False)
    assert done.returncode == 3
    assert f"127.0.0.1 port {port} is in use" in done.stderr.decode()
