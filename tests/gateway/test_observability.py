import json
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from clinvk.backends import registry
from clinvk.gateway import tracing
from clinvk.web import connection
from fakes import agent
from fakes.world import World
from gateway_fakes.server import Gateway, gateway

pytestmark = pytest.mark.anyio

PROMPT = {"prompt": "hi", "backend": "claude"}


async def numbers(server: Gateway) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics by its name and the values of its labels."""
    answer = await server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families: Any = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def test_metrics_are_served_only_when_switched_on_and_with_a_key(world: World) -> None:
    async with gateway(world) as server:
        off = await server.client.get("/metrics")
    async with gateway(world, environ={"CLINVK_API_KEYS": "k"}, server__metrics_enabled=True) as server:
        without = await server.client.get("/metrics")
        on = await server.client.get("/metrics", headers={"Authorization": "Bearer k"})
    assert [off.status_code, without.status_code, on.status_code] == [404, 401, 200]


async def test_requests_runs_tokens_cost_and_errors_are_counted(world: World) -> None:
    async with gateway(world, server__metrics_enabled=True) as server:
        await server.post("/api/v1/prompt", PROMPT)
        await server.post(
            "/api/v1/parallel", {"tasks": [PROMPT, {"prompt": "offline:fail=timeout", "backend": "offline"}]}
        )
        await server.post("/api/v1/prompt", {"prompt": "hi", "backend": "nobody"})
        got = await numbers(server)
    assert got["clinvk_http_requests_total", "POST", "/api/v1/prompt", "200"] == 1
    assert got["clinvk_http_requests_total", "POST", "/api/v1/prompt", "404"] == 1
    assert got["clinvk_http_errors_total", "backend_unknown"] == 1
    assert got["clinvk_runs_total", "claude", "completed"] == 2
    assert got["clinvk_runs_total", "offline", "failed"] == 1
    assert got["clinvk_run_errors_total", "offline", "timeout"] == 1
    assert got["clinvk_tokens_total", "claude", "input"] == 24
    assert got["clinvk_tokens_total", "claude", "cached"] == 4
    assert got["clinvk_cost_usd_total", "claude"] == pytest.approx(0.002)
    assert got["clinvk_run_seconds_count", "claude"] == 2
    assert got["clinvk_first_output_seconds_count", "claude"] == 2
    assert got[("clinvk_queue_wait_seconds_count",)] == 3
    assert got[("process_resident_memory_bytes",)] > 0


async def test_what_is_counted_by_alerts_begins_at_zero(world: World) -> None:
    async with gateway(world, server__metrics_enabled=True) as server:
        got = await numbers(server)
    for backend in registry.BACKENDS:
        assert got["clinvk_run_errors_total", backend, "auth_required"] == 0
        assert got["clinvk_runs_total", backend, "failed"] == 0
        assert got["clinvk_cost_usd_total", backend] == 0
    assert got["clinvk_http_errors_total", "internal"] == 0


async def test_running_and_waiting_runs_are_shown_as_they_are_now(world: World) -> None:
    gate, here = world.fifo("gate"), world.fifo("here")
    held = {"prompt": agent.prompt({"reach": str(here)}, {"wait": str(gate)}), "backend": "claude", "background": True}
    async with gateway(world, server__metrics_enabled=True, limits__max_concurrent=1) as server:
        await server.post("/api/v1/prompt", held)
        await here.reached()
        await server.post("/api/v1/prompt", {**PROMPT, "background": True})
        got = await numbers(server)
        await gate.release()
    assert got[("clinvk_runs_running",)] == 1
    assert got[("clinvk_queue_depth",)] == 1


async def test_labels_are_bounded_whatever_is_asked_for(world: World) -> None:
    async with gateway(world, server__metrics_enabled=True) as server:
        for number in range(20):
            await server.client.get(f"/nowhere/{number}")
            await server.client.get(f"/api/v1/runs/{number:016x}")
            await server.client.request(f"ODD{number}", "/health")
            await server.post("/api/v1/prompt", {"prompt": "x", "backend": f"backend{number}"})
        before = len(await numbers(server))
        for number in range(20, 40):
            await server.client.get(f"/nowhere/{number}")
            await server.client.get(f"/api/v1/runs/{number:016x}")
            await server.client.request(f"ODD{number}", "/health")
            await server.post("/api/v1/prompt", {"prompt": "x", "backend": f"backend{number}"})
        after = len(await numbers(server))
    assert after - before <= 20  # the samples of GET /metrics itself, which was not over when it was first asked for


async def test_switching_metrics_on_leaves_streams_alone(world: World) -> None:
    body = {"prompt": agent.prompt({"say": "a"}, {"say": "b"}), "backend": "claude", "output_format": "stream-json"}
    async with gateway(world, server__metrics_enabled=True) as server:
        answer = await server.post("/api/v1/prompt", body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(answer.text.splitlines()) == 7


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("clinvk"))
    return exporter


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


async def test_a_run_is_a_span_below_its_request_and_its_caller(world: World, spans: InMemorySpanExporter) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with gateway(world) as server:
        await server.post("/api/v1/prompt", PROMPT, traceparent=caller)
    request, run = named(spans, "POST /api/v1/prompt")[0], named(spans, "invoke_agent claude")[0]
    assert request.context is not None
    assert run.parent is not None
    assert format(request.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert run.parent.span_id == request.context.span_id
    got = dict(run.attributes or {})
    assert {name: value for name, value in got.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "claude",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.conversation.id": got["gen_ai.conversation.id"],
        "gen_ai.response.model": "fake-claude",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
    }
    assert "hi" not in got.values()


async def test_children_are_spans_below_their_parent_and_failures_are_errors(
    world: World, spans: InMemorySpanExporter
) -> None:
    async with gateway(world) as server:
        await server.post(
            "/api/v1/parallel", {"tasks": [PROMPT, {"prompt": "offline:fail=timeout", "backend": "offline"}]}
        )
    parent, failed = named(spans, "parallel")[0], named(spans, "invoke_agent offline")[0]
    assert parent.context is not None
    assert failed.parent is not None
    assert failed.parent.span_id == parent.context.span_id
    assert (failed.status.is_ok, (failed.attributes or {})["error.type"]) == (False, "timeout")


async def test_what_a_guard_refuses_is_counted_under_its_route(world: World, spans: InMemorySpanExporter) -> None:
    async with gateway(
        world, environ={"CLINVK_API_KEYS": "k"}, server__metrics_enabled=True, server__max_request_body_bytes=1000
    ) as server:
        server.client.headers["Authorization"] = "Bearer k"
        await server.post("/api/v1/prompt", PROMPT, **{"X-Api-Key": "wrong"})
        await server.client.get("/api/v1/runs/1234", headers={"X-Api-Key": "wrong"})
        await server.client.get("/nowhere", headers={"X-Api-Key": "wrong"})
        await server.client.put("/api/v1/prompt", headers={"X-Api-Key": "wrong"})
        await server.post("/api/v1/prompt", {**PROMPT, "prompt": "x" * 1000})
        got = await numbers(server)
    assert got["clinvk_http_requests_total", "POST", "/api/v1/prompt", "401"] == 1
    assert got["clinvk_http_requests_total", "GET", "/api/v1/runs/{id}", "401"] == 1
    assert got["clinvk_http_requests_total", "GET", "none", "401"] == 1
    assert got["clinvk_http_requests_total", "PUT", "none", "401"] == 1
    assert got["clinvk_http_requests_total", "POST", "/api/v1/prompt", "413"] == 1
    assert len(named(spans, "POST /api/v1/prompt")) == 2


async def test_connections_of_which_no_request_comes_are_counted_logged_and_audited(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "clinvk.gateway")
    monkeypatch.setattr(connection, "HEAD_SECS", 0.1)
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    told: list[str] = []
    async with gateway(world, server__metrics_enabled=True) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        for data in (b"no HTTP\r\n\r\n", head, head + b"X: " + b"a" * connection.HEAD_BYTES):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(data)
                told.append((await stream.receive()).decode())
        got = await numbers(server)
    statuses = ["400", "408", "431"]
    assert [answer.split()[1] for answer in told] == statuses
    assert [got["clinvk_http_requests_total", "other", "none", status] for status in statuses] == [1, 1, 1]
    assert got["clinvk_http_errors_total", "invalid_request"] == 3
    logged = [vars(record) for record in caplog.records if record.getMessage().startswith("- none ")]
    assert [line["message"] for line in logged] == [f"- none {status}" for status in statuses]
    assert [line["error_code"] for line in logged] == ["invalid_request"] * 3
    for line, answer in zip(logged, told, strict=True):
        assert f"X-Request-Id: {line['request_id']}\r\n" in answer
    audit = [json.loads(line) for line in (world.home / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["status"], line["address"], line["error_code"]) for line in audit] == [
        (int(status), "127.0.0.1", "invalid_request") for status in statuses
    ]
