import anyio
import pytest

from clinvk.errors import ERROR_CODES
from clinvk.gateway import answers
from fakes import agent
from fakes.world import PATIENCE_SECS, World
from gateway_fakes.server import Json, events, gateway, lines

pytestmark = pytest.mark.anyio

CODEX_TOOL = (
    '{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"touch made",'
    '"aggregated_output":"","exit_code":null,"status":"in_progress"}}\n'
)


async def test_a_prompt_is_answered_with_its_result(world: World) -> None:
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": "hello", "backend": "claude"})
        result = answer.json()
    assert answer.status_code == 200
    assert (result["status"], result["output"], result["error"]) == ("completed", "echo: hello", None)
    assert answer.headers["x-clinvk-run"] == result["run_id"]
    assert world.calls()[0]["cwd"] == str(world.workdir)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("rate_limited", 429),
        ("quota_exhausted", 429),
        ("overloaded", 429),
        ("auth_required", 503),
        ("model_unknown", 404),
        ("backend_error", 502),
        ("timeout", 504),
        ("permission_blocked", 403),
        ("internal", 500),
    ],
)
async def test_a_failed_prompt_has_the_status_of_its_error(world: World, code: str, status: int) -> None:
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": f"offline:fail={code}", "backend": "offline"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 429)


def test_every_error_code_has_a_status() -> None:
    assert set(answers.STATUS) == set(ERROR_CODES)


async def test_only_a_run_that_has_not_got_anywhere_may_be_repeated_by_itself(world: World) -> None:
    busy = {"fail": "Selected model is at capacity. Please try a different model."}
    told: list[tuple[int, str]] = []
    async with gateway(world) as server:
        for steps in ([busy], [{"answer": "the file is changed"}, busy], [{"raw": CODEX_TOOL}, busy]):
            asked = agent.prompt(*steps)
            plain = await server.post("/api/v1/prompt", {"prompt": asked, "backend": "codex"})
            chat = {"model": "codex", "messages": [{"role": "user", "content": asked}]}
            openai = await server.post("/openai/v1/chat/completions", chat)
            anthropic = await server.post("/anthropic/v1/messages", chat)
            told += [(got.status_code, got.headers["x-should-retry"]) for got in (plain, openai, anthropic)]
    assert told == [(429, "true"), (429, "true"), (529, "true"), *[(429, "false"), (429, "false"), (529, "false")] * 2]


async def test_partial_output_is_in_the_body_of_a_failure(world: World) -> None:
    asked = agent.prompt({"say": "half an ans"}, {"fail": "boom"})
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": asked, "backend": "claude"})
        result = answer.json()
    assert answer.status_code == 502
    assert (result["status"], result["partial"], result["output"]) == ("failed", True, "half an ans")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"prompt": "x", "backnd": "claude"}, 422, "did you mean backend?"),
        (
            {"prompt": "x", "sandbox_mode": "none"},
            422,
            "sandbox_mode is 'none'; it must be one of 'default', 'read-only'",
        ),
        ({"prompt": " "}, 422, "prompt must not be blank"),
        ({}, 422, "prompt is required"),
        ([], 422, "the argument object is []"),
        ({"prompt": "x", "backend": "cloud"}, 404, "no backend named 'cloud'"),
        ({"prompt": "x", "backend": "claude", "session_id": "abc"}, 404, "abc"),
        ({"prompt": "x", "backend": "claude", "workdir": "/nowhere/at/all"}, 422, "does not exist"),
        ({"prompt": "x", "backend": "claude", "approval_mode": "always"}, 422, "approval_mode"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(world: World, body: object, status: int, told: str) -> None:
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", body)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("application/json", b"{", "not JSON"),
        ("text/plain", b'{"prompt": "x"}', "Content-Type is 'text/plain'"),
        ("application/x-www-form-urlencoded", b"prompt=x", "Content-Type"),
    ],
)
async def test_only_json_is_taken(world: World, kind: str, content: bytes, told: str) -> None:
    async with gateway(world) as server:
        answer = await server.client.post("/api/v1/prompt", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"prompt": "x", "prompt": "y"}', "'prompt' stands twice"),
        (b'{"prompt": "x", "metadata": {"a": {"b": 1, "b": 1}}}', "'b' stands twice"),
        (b'{"prompt": "x", "metadata": {"a": NaN}}', "NaN"),
        (b'{"prompt": "x", "metadata": {"a": -Infinity}}', "-Infinity"),
        (b'{"prompt": "x", "metadata": {"a": 1e999}}', "metadata must hold finite numbers only"),
        (b'{"prompt": "x", "metadata": {"a": ["\\ud800"]}}', "metadata is not valid Unicode"),
        (b'{"prompt": "x", "output_schema": {"\\udfff": {}}}', "output_schema is not valid Unicode"),
        (b'{"prompt": "x", "metadata": {"a": ' + b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
    ],
)
async def test_json_that_is_doubtful_is_refused(world: World, content: bytes, told: str) -> None:
    async with gateway(world) as server:
        headers = {"Content-Type": "application/json"}
        answer = await server.client.post("/api/v1/prompt", content=content, headers=headers)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]
    assert world.calls() == []


async def test_a_dry_run_starts_nothing(world: World) -> None:
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": "x", "backend": "claude", "dry_run": True})
    assert (answer.status_code, answer.json()["dry_run"]) == (200, True)
    assert world.calls() == []


async def test_parallel_chain_and_compare_answer_with_every_part(world: World) -> None:
    tasks = [{"prompt": "a", "backend": "claude"}, {"prompt": "offline:fail=timeout", "backend": "offline"}]
    steps = [
        {"prompt": "one", "backend": "codex", "name": "first"},
        {"prompt": "{{steps.first}}!", "backend": "gemini"},
    ]
    async with gateway(world) as server:
        parallel = await server.post("/api/v1/parallel", {"tasks": tasks})
        chain = await server.post("/api/v1/chain", {"steps": steps})
        compare = await server.post("/api/v1/compare", {"prompt": "which?", "backends": ["claude", "codex"]})
    assert [answer.status_code for answer in (parallel, chain, compare)] == [200, 200, 200]
    assert [part["status"] for part in parallel.json()["results"]] == ["completed", "failed"]
    assert [part["output"] for part in chain.json()["results"]] == ["echo: one", "echo: echo: one!"]
    assert sorted(part["backend"] for part in compare.json()["ranking"]) == ["claude", "codex"]


@pytest.mark.parametrize(
    ("operation", "body", "field", "value"),
    [
        ("prompt", {"workdir": "/no/such/folder"}, "workdir", "/no/such/folder"),
        ("prompt", {"workdir": "/etc"}, "workdir", "/etc"),
        ("prompt", {"files": ["/etc/hostname"]}, "files", "/etc/hostname"),
        ("prompt", {"session_id": "nosuch"}, "session_id", "nosuch"),
        ("prompt", {"session_id": "No Session"}, "session_id", "No Session"),
        ("prompt", {"backend": "cluade"}, "backend", "cluade"),
        ("prompt", {"backend": "codex", "max_turns": 3}, "max_turns", 3),
        ("compare", {"backends": ["claude", "cluade"]}, "backends[1]", "cluade"),
        ("compare", {"backends": ["claude", "claude"]}, "backends", "claude"),
        ("compare", {"backends": ["claude"], "judge": "cluade"}, "judge", "cluade"),
        ("compare", {"backends": ["claude"], "models": {"cluade": "x"}}, "models", "cluade"),
    ],
)
async def test_what_is_wrong_with_one_field_is_told_with_its_name_and_value(
    world: World, operation: str, body: Json, field: str, value: object
) -> None:
    async with gateway(world, server__blocked_workdir_prefixes=["/etc"]) as server:
        answer = await server.post(f"/api/v1/{operation}", {"prompt": "hi", **body})
    details = answer.json()["error"]["details"]
    assert (details["field"], details["value"]) == (field, value)
    assert world.calls() == []


@pytest.mark.parametrize("place", ["sessions/nosuch", "runs/nosuch", "runs/nosuch/output", "runs/nosuch/events"])
async def test_what_is_not_there_is_told_with_its_name_and_value(world: World, place: str) -> None:
    async with gateway(world) as server:
        answer = await server.client.get(f"/api/v1/{place}")
    details = answer.json()["error"]["details"]
    field = "session_id" if place.startswith("sessions") else "run_id"
    assert (answer.status_code, details["field"], details["value"]) == (404, field, "nosuch")


@pytest.mark.parametrize(("field", "value"), [("wait_secs", 5), ("output_format", "stream-json")])
async def test_a_call_in_the_background_refuses_what_it_would_pass_over(
    world: World, field: str, value: object
) -> None:
    async with gateway(world) as server:
        body = {"prompt": "hello", "backend": "claude", "background": True, field: value}
        answer = await server.post("/api/v1/prompt", body)
    assert (answer.status_code, answer.json()["error"]["details"]) == (422, {"field": field})
    assert world.calls() == []


@pytest.mark.parametrize(
    ("more", "headers", "field"),
    [
        ({"wait_secs": 5}, {"Prefer": "respond-async"}, "wait_secs"),
        ({"output_format": "stream-json"}, {"Prefer": "respond-async"}, "output_format"),
        ({}, {"Prefer": "respond-async", "Accept": "text/event-stream"}, "Accept"),
        ({"background": True}, {"Accept": "text/event-stream"}, "Accept"),
        ({}, {"X-Clinvk-Session": "a"}, "X-Clinvk-Session"),
        ({}, {"X-Clinvk-Workdir": "/"}, "X-Clinvk-Workdir"),
    ],
)
async def test_headers_that_contradict_the_call_or_mean_nothing_to_it_are_refused(
    world: World, more: Json, headers: dict[str, str], field: str
) -> None:
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": "x", "backend": "claude", **more}, **headers)
    assert (answer.status_code, answer.json()["error"]["details"]) == (422, {"field": field})
    assert world.calls() == []


@pytest.mark.parametrize("how", ["background", "prefer"])
async def test_a_call_that_does_not_wait_is_answered_with_where_to_look(world: World, how: str) -> None:
    fifo = world.fifo("gate")
    body = {"prompt": agent.prompt({"wait": str(fifo)}, {"answer": "late"}), "backend": "claude"}
    headers = {"Prefer": "respond-async, wait=5"} if how == "prefer" else {}
    async with gateway(world) as server:
        answer = await server.post(
            "/api/v1/prompt", body | ({"background": True} if how == "background" else {}), **headers
        )
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        where = answer.headers["location"]
        assert where == f"/api/v1/runs/{answer.json()['run_id']}"
        running = (await server.client.get(where)).json()
        await fifo.release()
        ended = (await server.client.get(where, params={"wait_secs": PATIENCE_SECS})).json()
    assert running["run"]["status"] == "running"
    assert (ended["run"]["status"], ended["result"]["output"]) == ("completed", "late")


async def test_a_call_that_waits_too_long_is_told_where_its_run_goes_on(world: World) -> None:
    fifo = world.fifo("gate")
    body = {"prompt": agent.prompt({"say": "so far"}, {"wait": str(fifo)}), "backend": "claude"}
    async with gateway(world, server__request_timeout_secs=0.5) as server:
        answer = await server.post("/api/v1/prompt", body)
        await fifo.release()
        shown = await server.client.get(answer.headers["location"], params={"wait_secs": 0.4})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert shown.json()["run"]["run_id"] == answer.json()["run_id"]


async def test_a_client_that_leaves_cancels_the_run_it_waits_for(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"reach": str(here)}, {"hang": True})
    async with gateway(world) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.post, "/api/v1/prompt", {"prompt": asked, "backend": "claude"})
            world.processes.watch_agent(await here.reached())
            tasks.cancel_scope.cancel()
        await world.processes.ended()
        listed = await server.client.get("/api/v1/runs")
        run_id = listed.json()["runs"][0]["run_id"]
        listed = await server.client.get(f"/api/v1/runs/{run_id}", params={"wait_secs": PATIENCE_SECS})
    assert listed.json()["run"]["status"] == "cancelled"


async def test_a_reader_that_leaves_a_stream_cancels_its_run(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"say": "begun"}, {"reach": str(here)}, {"hang": True})
    body = {"prompt": asked, "backend": "claude", "output_format": "stream-json"}
    async with gateway(world) as server:
        async with server.client.stream("POST", "/api/v1/prompt", json=body) as response:
            assert response.status_code == 200
            world.processes.watch_agent(await here.reached())
        await world.processes.ended()


async def test_stream_json_is_the_events_and_then_the_result(world: World) -> None:
    body = {"prompt": "hi", "backend": "claude", "output_format": "stream-json"}
    async with gateway(world) as server:
        async with server.client.stream("POST", "/api/v1/prompt", json=body) as response:
            got = await lines(response)
        plain = await server.client.get(f"/api/v1/runs/{got[-1]['run_id']}")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-clinvk-run"] == got[-1]["run_id"]
    assert [line["type"] for line in got] == [
        "run_started", "session_started", "text_delta", "text_end", "run_finished", "result",
    ]  # fmt: skip
    assert got[2]["text"] == "echo: hi"
    assert {line["run_id"] for line in got} == {got[-1]["run_id"]}
    assert plain.json()["result"] == {key: value for key, value in got[-1].items() if key != "type"}


async def test_accept_event_stream_is_the_same_as_server_sent_events(world: World) -> None:
    body = {"tasks": [{"prompt": "a", "backend": "claude"}, {"prompt": "b", "backend": "codex"}]}
    async with (
        gateway(world) as server,
        server.client.stream(
            "POST", "/api/v1/parallel", json=body, headers={"Accept": "text/event-stream"}
        ) as response,
    ):
        got = [event async for event in events(response)]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [event["event"] for event in got].count("run_started") == 2
    assert {event["data"]["backend"] for event in got if event["event"] == "text_delta"} == {"claude", "codex"}
    assert (got[-1]["event"], got[-1]["data"]["completed"]) == ("result", 2)


async def test_what_is_refused_before_it_starts_is_no_stream(world: World) -> None:
    body = {"prompt": "hi", "backend": "nobody", "output_format": "stream-json"}
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "backend_unknown")


async def test_nothing_there_and_nothing_allowed_are_told_in_the_same_shape(world: World) -> None:
    async with gateway(world) as server:
        missing = await server.client.get("/api/v2/prompt")
        wrong = await server.client.get("/api/v1/prompt")
    assert (missing.status_code, wrong.status_code, wrong.headers["allow"]) == (404, 405, "POST")
    assert {"code", "message", "hint"} <= set(missing.json()["error"])
