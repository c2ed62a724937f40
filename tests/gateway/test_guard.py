"""Each guard with the attack that it is there for."""

import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.gateway import bodylimit
from clinvk.gateway.drain import Drain
from clinvk.gateway.serving import serve
from clinvk.web import keys
from fakes import agent
from fakes.world import PATIENCE_SECS, World
from gateway_fakes.server import LAUNCH, Gateway, Json, gateway
from mcp_fakes.http_server import MODERN
from mcp_fakes.raw_client import MODERN_META

pytestmark = pytest.mark.anyio

KEYS = {"CLINVK_API_KEYS": "first-key, second-key"}
ROUTES = (
    ("GET", "/api/v1/runs"),
    ("GET", "/api/v1/sessions"),
    ("GET", "/api/v1/backends"),
    ("GET", "/api/v1/runs/abc/events"),
    ("DELETE", "/api/v1/runs/abc"),
    ("POST", "/api/v1/prompt"),
    ("POST", "/openai/v1/chat/completions"),
    ("GET", "/openai/v1/models"),
    ("POST", "/anthropic/v1/messages"),
    ("POST", "/mcp"),
    ("GET", "/nowhere"),
)
PROMPT = {"prompt": "x", "backend": "claude"}


def audit(world: World, kind: str = "request") -> list[Json]:
    """The lines of one type in the audit log."""
    text = (world.home / "audit.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["type"] == kind]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.com"}, 421),
        ({"Host": "evil.com:PORT"}, 421),  # a name that was rebound to 127.0.0.1
        ({"Host": "127.0.0.1.evil.com"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost"}, 403),  # another port is another program
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:x"}, 403),
        ({"Origin": "http://localhost.evil.com"}, 403),
        ({"Origin": "https://127.0.0.1:PORT"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
async def test_pages_of_strangers_are_refused_on_every_route(
    world: World, headers: dict[str, str], status: int
) -> None:
    async with gateway(world, mcp=True) as server:
        port = server.url.rpartition(":")[2]
        sent = {name: value.replace("PORT", port) for name, value in headers.items()}
        got = {
            path: (await server.client.request(m, path, headers=sent)).status_code
            for m, path in (*ROUTES, ("GET", "/health"))
        }
    assert got == dict.fromkeys(got, status)
    assert world.calls() == []


async def test_own_pages_and_clients_without_a_port_are_let_in(world: World) -> None:
    async with gateway(world) as server:
        port = server.url.rpartition(":")[2]
        for headers in ({"Host": "localhost"}, {"Host": "[::1]:99"}, {"Origin": f"http://localhost:{port}"}):
            assert (await server.client.get("/api/v1/runs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Api-Key": "first-ke"},
        {"X-Api-Key": "first-key, second-key"},
        {"X-Api-Key": ""},
        {"Authorization": "Basic first-key"},
        {"Authorization": "first-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer FIRST-KEY"},
    ],
)
async def test_without_a_valid_key_nothing_is_served_but_health(world: World, headers: dict[str, str]) -> None:
    async with gateway(world, environ=KEYS, mcp=True) as server:
        got = {path: (await server.client.request(m, path, headers=headers)).status_code for m, path in ROUTES}
        health = await server.client.get("/health", headers=headers)
    assert got == dict.fromkeys(got, 401)
    assert health.status_code == 200


async def test_a_key_opens_every_door_however_it_is_sent(world: World) -> None:
    async with gateway(world, environ=KEYS) as server:
        for headers in (
            {"X-Api-Key": "first-key"},
            {"Authorization": "Bearer second-key"},
            {"authorization": "bearer first-key"},
        ):
            assert (await server.post("/api/v1/prompt", PROMPT, **headers)).status_code == 200
    assert [line["who"] for line in audit(world)] == ["key 1", "key 2", "key 1"]


async def test_keys_that_become_unreadable_let_nobody_in(world: World) -> None:
    key = keys.create(world.home, "alice")
    async with gateway(world) as server:
        before = await server.client.get("/api/v1/runs", headers={"X-Api-Key": key})
        (world.home / "keys.json").write_text("{", encoding="utf-8")
        after = await server.client.get("/api/v1/runs", headers={"X-Api-Key": key})
        without = await server.client.get("/api/v1/runs")
    assert [before.status_code, after.status_code, without.status_code] == [200, 503, 503]


async def test_an_address_that_others_can_reach_is_not_served_without_keys(world: World) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ClinvkError, match="refused to listen on"):
            await serve(_at(world, host), world.environ, None)


async def test_every_web_page_may_call_only_with_a_key(world: World) -> None:
    anybody = world.loaded(server__port=0, server__cors_allowed_origins=["https://app.example", "*"])
    with pytest.raises(ClinvkError, match="every web page"):
        await serve(anybody, world.environ, None)
    async with gateway(world, environ=KEYS, server__cors_allowed_origins=["*"]) as server:
        page = {"Origin": "https://evil.example"}
        stranger = await server.client.get("/api/v1/runs", headers=page)
        known = await server.client.get("/api/v1/runs", headers={**page, "X-Api-Key": "first-key"})
    assert [stranger.status_code, known.status_code] == [401, 200]


def _at(world: World, host: str) -> Loaded:
    return world.loaded(server__host=host, server__port=0)


async def test_a_server_that_may_not_serve_ends_with_the_reason(world: World) -> None:
    env = {**world.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = (*LAUNCH, "server.host=0.0.0.0")
    with anyio.fail_after(60):
        ended = await anyio.run_process(command, env=env, check=False)
    assert ended.returncode == 1
    assert b"policy_denied: refused to listen on 0.0.0.0" in ended.stderr


async def test_preflights_are_answered_before_keys_are_asked_for(world: World) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-own",
    }
    flags: Any = {"server__cors_allowed_origins": ["https://app.example"], "server__cors_allowed_headers": ["X-Own"]}
    async with gateway(world, environ=KEYS, server__cors_max_age=77, **flags) as server:
        friend = await server.client.options("/api/v1/prompt", headers={"Origin": "https://app.example", **asks})
        stranger = await server.client.options("/api/v1/prompt", headers={"Origin": "https://evil.example", **asks})
        refused = await server.post("/api/v1/prompt", PROMPT, Origin="https://app.example")
        answered = await server.post(
            "/api/v1/prompt", PROMPT, Origin="https://app.example", **{"X-Api-Key": "first-key"}
        )
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://app.example"
    assert friend.headers["access-control-max-age"] == "77"
    assert "access-control-allow-credentials" not in friend.headers
    assert (stranger.status_code, "access-control-allow-origin" in stranger.headers) == (403, False)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")
    assert answered.status_code == 200
    assert "X-Clinvk-Run" in answered.headers["access-control-expose-headers"]


async def test_no_origin_is_allowed_unless_configured(world: World) -> None:
    async with gateway(world) as server:
        answer = await server.client.get("/health", headers={"Origin": server.url})
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (200, False)


async def test_a_body_over_the_limit_is_refused_whatever_its_length_says(world: World) -> None:
    async def drip() -> AsyncGenerator[bytes]:
        for _ in range(20):
            yield b'{"prompt": "' + b"x" * 100

    kind = {"Content-Type": "application/json"}
    async with gateway(world, server__max_request_body_bytes=1000) as server:
        read = await server.client.request("GET", "/api/v1/runs/x", params={"wait_secs": 9}, content=drip())
        told = await server.client.post("/api/v1/prompt", content=b"x" * 1001, headers=kind)
        chunked = await server.client.post("/api/v1/prompt", content=drip(), headers=kind)
        openai = await server.client.post("/openai/v1/chat/completions", content=b"x" * 1001, headers=kind)
        anthropic = await server.client.post("/anthropic/v1/messages", content=b"x" * 1001, headers=kind)
    assert [told.status_code, chunked.status_code, read.status_code] == [413, 413, 413]
    assert told.json()["error"]["details"] == {"max_bytes": 1000}
    assert (openai.status_code, openai.json()["error"]["type"]) == (413, "invalid_request_error")
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (413, "request_too_large")


async def test_a_client_that_leaves_within_its_body_is_no_bug(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway(world) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            head = b"POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            await stream.send(head + b"Expect: 100-continue\r\n\r\n")
            assert b"100 Continue" in await stream.receive()  # it is read now
            await stream.send(b"{")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    [line] = (world.home / "audit.jsonl").read_text().splitlines()
    assert (json.loads(line)["outcome"], json.loads(line)["status"]) == ("left", 499)


async def test_a_body_that_never_ends_is_given_up(world: World) -> None:
    sent: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            await receive()

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/api/v1/prompt", "headers": []}
    with anyio.fail_after(20):
        async with world.app() as clinvk:
            await bodylimit.BodyLimit(app, 1000, Drain(clinvk), body_secs=0.01)(scope, receive, send)
    assert sent[0]["status"] == 408


async def limited(server: Gateway, count: int, **headers: str) -> list[int]:
    return [(await server.client.get("/api/v1/runs", headers=headers)).status_code for _ in range(count)]


RATE: Any = {"server__rate_limit_enabled": True, "server__rate_limit_rps": 0.001, "server__rate_limit_burst": 3}


async def test_who_asks_too_often_is_told_when_to_come_back(world: World) -> None:
    async with gateway(world, **RATE) as server:
        first = await limited(server, 4)
        answer = await server.client.get("/api/v1/runs")
        openai = await server.client.get("/openai/v1/models")
        anthropic = await server.client.post("/anthropic/v1/messages")
    assert first == [200, 200, 200, 429]
    assert int(answer.headers["retry-after"]) > 100
    assert answer.json()["error"]["code"] == "rate_limited"
    assert openai.json()["error"]["type"] == "rate_limit_error"
    assert anthropic.json()["error"]["type"] == "rate_limit_error"


async def test_a_forwarded_address_is_not_believed_of_everybody(world: World) -> None:
    async with gateway(world, **RATE) as server:
        got = [await limited(server, 1, **{"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(4)]
    assert got == [[200], [200], [200], [429]]


async def test_a_trusted_proxy_is_believed_but_not_what_its_client_wrote(world: World) -> None:
    flags: Any = {**RATE, "server__trusted_proxies": ["127.0.0.1"]}
    async with gateway(world, **flags) as server:
        made_up = [await limited(server, 1, **{"X-Forwarded-For": f"10.9.9.{n}, 198.51.100.7"}) for n in range(4)]
        other = await limited(server, 1, **{"X-Forwarded-For": "198.51.100.8"})
    assert made_up == [[200], [200], [200], [429]]
    assert other == [200]


async def test_a_client_cannot_escape_its_limit_within_its_own_network(world: World) -> None:
    flags: Any = {**RATE, "server__trusted_proxies": ["127.0.0.1"]}
    async with gateway(world, **flags) as server:
        one = [await limited(server, 1, **{"X-Forwarded-For": f"2001:db8::{n}"}) for n in range(4)]
        other = await limited(server, 1, **{"X-Forwarded-For": "2001:db8:0:1::1"})
    assert one == [[200], [200], [200], [429]]
    assert other == [200]


async def test_nobody_is_forgotten_as_long_as_the_limit_counts(world: World) -> None:
    async with gateway(
        world, **RATE, server__rate_limit_cleanup_secs=1e-9, server__trusted_proxies=["127.0.0.1"]
    ) as it:
        one = await limited(it, 3, **{"X-Forwarded-For": "198.51.100.7"})
        await limited(it, 1, **{"X-Forwarded-For": "198.51.100.8"})
        again = await limited(it, 1, **{"X-Forwarded-For": "198.51.100.7"})
    assert one + again == [200, 200, 200, 429]


async def test_keys_have_limits_of_their_own_and_guessing_is_limited_by_address(world: World) -> None:
    flags: Any = {**RATE, "server__trusted_proxies": ["127.0.0.1"]}
    async with gateway(world, environ=KEYS, **flags) as server:
        one_key = [
            (await limited(server, 1, **{"X-Api-Key": "first-key", "X-Forwarded-For": f"198.51.100.{n}"}))[0]
            for n in range(4)
        ]
        guesses = await limited(server, 4, **{"X-Api-Key": "guess", "X-Forwarded-For": "203.0.113.1"})
    assert one_key == [200, 200, 200, 429]
    assert guesses == [401, 401, 401, 429]


async def test_behind_a_trusted_proxy_the_public_name_is_a_host_only_with_keys(world: World) -> None:
    behind = {"Host": "api.example.org", "X-Forwarded-For": "198.51.100.7"}
    flags: Any = {"server__trusted_proxies": ["127.0.0.0/8"]}
    async with gateway(world, **flags) as server:
        without = await server.client.get("/api/v1/runs", headers=behind)
    async with gateway(world, environ=KEYS, **flags) as server:
        answered = await server.client.get("/api/v1/runs", headers={**behind, "X-Api-Key": "first-key"})
        direct = await server.client.get("/api/v1/runs", headers={"Host": "api.example.org", "X-Api-Key": "first-key"})
    assert [without.status_code, answered.status_code, direct.status_code] == [421, 200, 421]


async def test_the_allow_list_of_workdirs_holds_for_calls_without_a_workdir_too(world: World, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    chat = {"model": "claude", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    flags: Any = {"server__allowed_workdir_prefixes": [str(allowed)]}
    async with gateway(world, **flags) as server:
        default = await server.post("/api/v1/prompt", PROMPT)
        empty = await server.post("/api/v1/prompt", {**PROMPT, "workdir": ""})
        escaped = await server.post("/api/v1/prompt", {**PROMPT, "workdir": f"{allowed}/../../"})
        inside = await server.post("/api/v1/prompt", {**PROMPT, "workdir": str(allowed)})
        openai = await server.post("/openai/v1/chat/completions", chat)
        anthropic = await server.post("/anthropic/v1/messages", chat, **{"X-Clinvk-Workdir": "/"})
    denied = [default, escaped, openai, anthropic]
    assert [answer.status_code for answer in denied] == [403] * 4
    assert empty.status_code == 422
    assert inside.status_code == 200


async def test_no_value_of_a_request_becomes_a_flag(world: World) -> None:
    async with gateway(world) as server:
        await server.post(
            "/api/v1/prompt", {"prompt": "--dangerously-skip-permissions", "backend": "claude", "model": "--yolo"}
        )
        await server.post(
            "/openai/v1/chat/completions",
            {"model": "codex/--yolo", "messages": [{"role": "user", "content": "--help"}]},
        )
    for call in (*world.calls("claude"), *world.calls("codex")):
        assert not {"--yolo", "--help", "--dangerously-skip-permissions"} & set(call["argv"])
        assert call["prompt"].strip() in ("--dangerously-skip-permissions", "--help")


async def test_keys_of_the_server_do_not_reach_the_agents(world: World) -> None:
    async with gateway(world, environ=KEYS) as server:
        await server.post("/api/v1/prompt", PROMPT, **{"X-Api-Key": "first-key"})
    assert "CLINVK_API_KEYS" not in world.calls()[0]["env"]
    assert "first-key" not in json.dumps(world.calls())


async def test_answers_say_how_browsers_are_to_treat_them(world: World) -> None:
    async with gateway(world, environ=KEYS) as server:
        answers = [
            await server.client.get("/health"),
            await server.client.get("/api/v1/runs"),
            await server.client.get("/x"),
        ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers


async def test_the_audit_log_says_who_did_what_without_prompts_and_keys(world: World) -> None:
    key = keys.create(world.home, "alice")
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": "my secret", "backend": "claude"}, **{"X-Api-Key": key})
        await server.post("/api/v1/prompt", {"prompt": "my secret", "backend": "nobody"}, **{"X-Api-Key": key})
        await server.post("/api/v1/prompt", {"prompt": "my secret"})
    done, failed, stranger = audit(world)
    wanted = {
        "who": "alice",
        "address": "127.0.0.1",
        "route": "POST /api/v1/prompt",
        "status": 200,
        "backend": "claude",
        "run_id": answer.json()["run_id"],
        "outcome": "completed",
        "cost_usd": 0.001,
    }
    assert {name: done[name] for name in wanted} == wanted
    assert (failed["outcome"], failed["error_code"]) == ("failed", "backend_unknown")
    assert (stranger["who"], stranger["status"]) == ("http", 401)
    text = (world.home / "audit.jsonl").read_text(encoding="utf-8")
    assert "my secret" not in text
    assert key[8:] not in text
    assert (world.home / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_the_audit_log_says_how_runs_ended_whichever_door_they_came_through(world: World) -> None:
    gate = world.fifo("gate")
    asked = {"prompt": agent.prompt({"wait": str(gate)}), "backend": "claude", "background": True}
    async with gateway(world, environ=KEYS, mcp=True) as server:
        server.client.headers["X-Api-Key"] = "second-key"
        run_id = (await server.post("/api/v1/prompt", asked)).json()["run_id"]
        await gate.release()
        await server.client.get(f"/api/v1/runs/{run_id}", params={"wait_secs": PATIENCE_SECS})
        call = {
            "name": "parallel",
            "arguments": {"tasks": [{"prompt": "hi", "backend": "codex"}]},
            "_meta": MODERN_META,
        }
        headers = {**MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "parallel"}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        assert (await server.post("/mcp", message, **headers)).status_code == 200
    over_http, over_mcp = audit(world, "run")
    assert (over_http["who"], over_http["run_id"], over_http["outcome"]) == ("key 2", run_id, "completed")
    assert over_http["cost_usd"] == 0.001
    assert (over_mcp["who"], over_mcp["operation"], over_mcp["backend"]) == ("key 2/raw", "parallel", "codex")
    assert audit(world)[0]["outcome"] == "running"


async def test_what_a_guard_refused_is_told_with_its_reason(world: World) -> None:
    limits: Any = {"server__max_request_body_bytes": 1024, "server__metrics_enabled": True}
    key = {"X-Api-Key": keys.create(world.home, "alice")}
    async with gateway(world, **limits) as server:
        await server.post("/api/v1/prompt", PROMPT)
        await server.client.get("/api/v1/runs", headers={"Host": "evil.com"})
        await server.client.get("/api/v1/runs", headers={"Origin": "http://evil.com"})
        await server.post("/api/v1/prompt", {"prompt": "x" * 2048}, **key)
        metrics = (await server.client.get("/metrics", headers=key)).text
        (world.home / "keys.json").write_text("{", encoding="utf-8")
        await server.post("/api/v1/prompt", PROMPT, **key)
    assert [(line["status"], line["outcome"], line["error_code"]) for line in audit(world)] == [
        (401, "failed", "auth_required"),
        (421, "failed", "policy_denied"),
        (403, "failed", "policy_denied"),
        (413, "failed", "invalid_request"),
        (503, "failed", "policy_denied"),
    ]
    assert 'clinvk_http_errors_total{code="policy_denied"} 2.0' in metrics


async def test_prompts_are_in_the_audit_log_only_when_switched_on(world: World) -> None:
    async with gateway(world, server__audit_prompts=True) as server:
        steps = [{"prompt": "one", "backend": "claude"}, {"prompt": f"log in with sk-{'x' * 20}"}]
        await server.post("/api/v1/chain", {"steps": steps})
    assert audit(world)[0]["prompts"] == ["one", "log in with [redacted]"]


async def test_what_a_caller_wrote_has_no_secrets_in_the_audit_log(world: World) -> None:
    secret = f"sk-{'a' * 20}"
    folder = world.root / f"of-{secret}"
    folder.mkdir()
    async with gateway(world) as server:
        await server.post("/api/v1/prompt", {"prompt": "one", "backend": "claude", "workdir": str(folder)})
        await server.post("/api/v1/prompt", {"prompt": "one", "backend": f"password={secret}", "workdir": secret})
        chat = {"model": "claude", "messages": [{"role": "user", "content": "one"}]}
        await server.post("/openai/v1/chat/completions", chat, **{"X-Clinvk-Workdir": str(folder)})
    hidden = f"{world.root}/of-[redacted]"
    assert [line["workdir"] for line in audit(world)] == [hidden, "[redacted]", hidden]
    assert audit(world)[1]["backend"] == "password=[redacted]"
    assert [line["workdir"] for line in audit(world, "run")] == [hidden, hidden]
    assert secret not in (world.home / "audit.jsonl").read_text(encoding="utf-8")


async def test_the_audit_log_says_who_called_through_mcp(world: World) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with gateway(world, environ=KEYS, mcp=True) as server:
        await server.post("/mcp", call, **{"X-Api-Key": "second-key", "Accept": "application/json, text/event-stream"})
    [line] = audit(world)
    assert (line["who"], line["route"], line["operation"]) == ("key 2", "POST /mcp", "mcp")


async def test_a_bug_met_by_one_request_is_answered_and_ends_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(world) as server:
        object.__setattr__(server.app, "runs", None)
        broken = await server.client.get("/api/v1/runs", headers={"X-Request-Id": "mine"})
        health = await server.client.get("/health")
    assert (broken.status_code, broken.json()["error"]["code"]) == (500, "internal")
    assert health.status_code == 200
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "GET /api/v1/runs failed unexpectedly"
    ]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1",
        b"Content-Length: 1e3",
    ],
)
async def test_a_body_of_doubtful_length_is_refused(world: World, framing: bytes) -> None:
    async with (
        gateway(world) as server,
        await anyio.connect_tcp("127.0.0.1", int(server.url.rpartition(":")[2])) as stream,
    ):
        await stream.send(b"POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n0\r\n\r\n")
        answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 400")
