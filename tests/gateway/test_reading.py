from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import pytest

from clinvk.gateway import replay
from clinvk.tools.eventlog import EventLog
from fakes import agent
from fakes.world import PATIENCE_SECS, World
from gateway_fakes.server import Gateway, Json, events, gateway

pytestmark = pytest.mark.anyio

LOOK_SECS = 0.01


async def prompted(server: Gateway, text: str, **more: object) -> Json:
    answer = await server.post("/api/v1/prompt", {"prompt": text, "backend": "claude", **more})
    result: Json = answer.json()
    return result


async def replayed(server: Gateway, run_id: str, last: str | None = None) -> tuple[int, list[Json]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with server.client.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as response:
        return response.status_code, [event async for event in events(response)]


async def test_backends_and_their_limits_are_listed(world: World) -> None:
    async with gateway(world) as server:
        listed = (await server.client.get("/api/v1/backends")).json()
    assert [backend["name"] for backend in listed["backends"]] == ["claude", "codex", "gemini", "offline"]
    assert listed["limits"]["max_concurrent"] == 16


async def test_sessions_are_listed_searched_shown_forked_and_deleted(world: World) -> None:
    async with gateway(world) as server:
        result = await prompted(server, "the needle")
        await prompted(server, "hay")
        listed = (await server.client.get("/api/v1/sessions", params={"limit": 1})).json()
        found = (await server.client.get("/api/v1/sessions", params={"query": "needle"})).json()
        shown = (await server.client.get(f"/api/v1/sessions/{result['session_id']}")).json()
        forked = await server.client.post(f"/api/v1/sessions/{result['session_id']}/fork")
        deleted = await server.client.delete(f"/api/v1/sessions/{result['session_id']}")
        gone = await server.client.get(f"/api/v1/sessions/{result['session_id']}")
        fork = await server.client.get(forked.headers["location"])
    assert (listed["total"], len(listed["sessions"]), listed["limit"]) == (2, 1, 1)
    assert [session["id"] for session in found["sessions"]] == [result["session_id"]]
    assert [turn["prompt"] for turn in shown["turns"]] == ["the needle"]
    assert forked.status_code == 201
    assert (deleted.status_code, deleted.json()["deleted"]) == (200, True)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "session_not_found")
    assert fork.json()["session"]["parent_id"] == result["session_id"]


async def test_what_a_body_asks_for_is_not_passed_over_in_silence(world: World) -> None:
    async with gateway(world) as server:
        result = await prompted(server, "the needle")
        fork = f"/api/v1/sessions/{result['session_id']}/fork"
        named = await server.post(fork, {"title": "mine"})
        empty = await server.post(fork, {})
        listed = (await server.client.get("/api/v1/sessions")).json()
    assert (named.status_code, named.json()["error"]["message"]) == (422, "a body means nothing here")
    assert (empty.status_code, listed["total"]) == (201, 2)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v1/sessions?limit=many", "limit is 'many'"),
        ("/api/v1/sessions?limt=3", "did you mean limit?"),
        ("/api/v1/runs?status=odd", "status 'odd' is none of completed"),
        ("/api/v1/runs?limit=1&limit=2", "limit stands twice in the query"),
        (
            "/api/v1/runs?action=output",
            "there is no parameter action; accepted: query, backend, workdir, status, limit, offset",
        ),
        ("/api/v1/backends?x=1", "there is no parameter x"),
        (
            "/api/v1/sessions?odd=1",
            "there is no parameter odd; accepted: query, backend, workdir, tag, status, limit, offset",
        ),
        ("/api/v1/sessions?session_id=a", "there is no parameter session_id; accepted: query, backend"),
        ("/api/v1/sessions/beef?tag=a", "there is no parameter tag; accepted: limit, offset"),
        ("/api/v1/runs/beef?limit=1", "there is no parameter limit; accepted: wait_secs"),
        ("/api/v1/runs/beef/output?status=a", "there is no parameter status; accepted: query, limit, offset"),
        ("/api/v1/sessions?offset=99999999999999999999", "offset is '99999999999999999999'"),
        ("/api/v1/runs?offset=99999999999999999999", "offset is '99999999999999999999'"),
    ],
)
async def test_a_wrong_query_is_refused(world: World, path: str, told: str) -> None:
    async with gateway(world) as server:
        answer = await server.client.get(path)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]


async def test_hints_name_requests_and_not_tools(world: World) -> None:
    body = {"prompt": "x", "backend": "claude", "session_id": "beef"}
    async with gateway(world) as server:
        run = await server.client.get("/api/v1/runs/beef")
        session = await server.client.get("/api/v1/sessions/beef")
        tasks = await server.post("/api/v1/parallel", {"tasks": [body]})
        lines = await server.post("/api/v1/prompt", {**body, "output_format": "stream-json"})
    assert run.json()["error"]["hint"] == "GET /api/v1/runs shows the runs that are kept"
    assert session.json()["error"]["hint"] == "GET /api/v1/sessions shows what there is"
    assert tasks.json()["results"][0]["error"]["hint"] == "GET /api/v1/sessions shows what there is"
    assert lines.json()["error"]["hint"] == "GET /api/v1/sessions shows what there is"


async def test_runs_are_listed_and_shown_with_their_output_by_page(world: World) -> None:
    async with gateway(world) as server:
        result = await prompted(server, "0123456789")
        listed = (await server.client.get("/api/v1/runs", params={"backend": "claude"})).json()
        shown = (await server.client.get(f"/api/v1/runs/{result['run_id'][:8]}")).json()
        page = (await server.client.get(f"/api/v1/runs/{result['run_id']}/output?offset=6&limit=4")).json()
        missing = await server.client.get("/api/v1/runs/ffff")
    assert [run["run_id"] for run in listed["runs"]] == [result["run_id"]]
    assert shown["result"] == result
    assert (page["text"], page["next_offset"]) == ("0123", 10)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "run_not_found")


async def test_a_run_is_cancelled_with_delete(world: World) -> None:
    here = world.fifo("here")
    asked = agent.prompt({"reach": str(here)}, {"hang": True})
    async with gateway(world) as server:
        run_id = (await prompted(server, asked, background=True))["run_id"]
        world.processes.watch_agent(await here.reached())
        answer = await server.client.delete(f"/api/v1/runs/{run_id}")
        again = await server.client.delete(f"/api/v1/runs/{run_id}")
        await world.processes.ended()
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert again.json()["already_ended"] is True


async def test_events_are_numbered_by_their_line_and_end_with_the_run(world: World) -> None:
    async with gateway(world) as server:
        run_id = (await prompted(server, "hi"))["run_id"]
        status, got = await replayed(server, run_id)
        kept = server.app.runs.path(run_id) / "events.jsonl"
        assert len(got) == len(kept.read_bytes().splitlines())
    assert status == 200
    assert [event["id"] for event in got] == [str(number) for number in range(1, len(got) + 1)]
    assert (got[0]["event"], got[-1]["event"]) == ("run_started", "run_finished")


async def test_a_reader_resumes_after_the_last_event_it_has(world: World) -> None:
    async with gateway(world) as server:
        run_id = (await prompted(server, "hi"))["run_id"]
        _, whole = await replayed(server, run_id)
        _, rest = await replayed(server, run_id, whole[1]["id"])
        status, nothing = await replayed(server, run_id, whole[-1]["id"])
    assert rest == whole[2:]
    assert (status, nothing) == (204, [])  # which is how an EventSource is told to stop


async def test_events_of_a_running_run_come_as_they_happen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "HEARTBEAT_SECS", 3600)  # which must not be what ends the wait for the last event
    gate = world.fifo("gate")
    asked = agent.prompt({"say": "first"}, {"wait": str(gate)}, {"say": " second"})
    async with gateway(world) as server:
        run_id = (await prompted(server, asked, background=True))["run_id"]
        texts: list[str] = []
        async with server.client.stream("GET", f"/api/v1/runs/{run_id}/events") as response:
            async for event in events(response):
                if event["event"] == "text_delta":
                    texts.append(event["data"]["text"])
                    if texts == ["first"]:
                        await gate.release()
    assert texts == ["first", " second"]


async def test_events_of_a_parallel_run_are_those_of_its_children_and_can_be_resumed(world: World) -> None:
    tasks = [{"prompt": "a", "backend": "claude"}, {"prompt": "b", "backend": "codex"}]
    async with gateway(world) as server:
        answer = await server.post("/api/v1/parallel", {"tasks": tasks})
        run_id = answer.json()["run_id"]
        _, whole = await replayed(server, run_id)
        _, rest = await replayed(server, run_id, whole[3]["id"])
        status, _ = await replayed(server, run_id, whole[-1]["id"])
    assert rest == whole[4:]
    assert whole[-1]["data"] == {
        "type": "run_finished",
        "run_id": run_id,
        "backend": "",
        "status": "completed",
        "error": None,
    }
    assert whole[-1]["id"].endswith(".end")
    assert status == 204


async def test_head_asks_for_no_events(world: World) -> None:
    asked = agent.prompt({"hang": True})
    async with gateway(world) as server:
        run_id = (await prompted(server, asked, background=True))["run_id"]
        answer = await server.client.head(f"/api/v1/runs/{run_id}/events")
        await server.client.delete(f"/api/v1/runs/{run_id}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("last", ["x", "1.x", "-1", "9" * 30, "1;2"])
async def test_a_made_up_event_id_is_refused(world: World, last: str) -> None:
    async with gateway(world) as server:
        run_id = (await prompted(server, "hi"))["run_id"]
        status, _ = await replayed(server, run_id, last)
    assert status == 422


@pytest.mark.parametrize("last", ["99", "1.1"])
@pytest.mark.parametrize("state", ["running here", "running elsewhere", "ended"])
async def test_an_event_id_beyond_the_last_one_is_refused_and_nothing_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, last: str
) -> None:
    monkeypatch.setattr(replay, "ANEW_SECS", 0.1)
    up = world.fifo("up")
    more: list[Json] = [] if state == "ended" else [{"reach": str(up)}, {"hang": True}]
    asked = agent.prompt({"say": "x"}, *more)
    async with gateway(world) as driver, gateway(world) as other:
        run_id = (await prompted(driver, asked, background=state != "ended"))["run_id"]
        if state != "ended":
            world.processes.watch_agent(await up.reached())
        server = driver if state == "running here" else other
        answer = await server.client.get(f"/api/v1/runs/{run_id}/events", headers={"Last-Event-ID": last})
        await driver.client.delete(f"/api/v1/runs/{run_id}")
    await world.processes.ended()
    told = answer.json()["error"]
    assert (answer.status_code, told["details"]) == (422, {"field": "Last-Event-ID", "value": last})
    assert told["message"] == f"Last-Event-ID '{last}' is no id of an event of this run"


async def written(log: Path, what: bytes) -> bytes:
    """The log of events once that stands in it."""
    with anyio.fail_after(PATIENCE_SECS):
        while what not in (kept := await anyio.Path(log).read_bytes()):  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(LOOK_SECS)
    return kept


async def test_an_event_id_is_good_while_an_heir_writes_the_events_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "ANEW_SECS", PATIENCE_SECS)
    looked = anyio.Event()
    lines = EventLog.lines

    def told(log: EventLog) -> Iterator[bytes]:
        looked.set()
        return lines(log)

    up = world.fifo("up")
    asked = agent.prompt({"say": "x"}, {"reach": str(up)}, {"hang": True})
    statuses: list[int] = []
    async with gateway(world) as driver, gateway(world) as other:
        run_id = (await prompted(driver, asked, background=True))["run_id"]
        world.processes.watch_agent(await up.reached())
        log = driver.app.runs.path(run_id) / "events.jsonl"
        kept = await written(log, b"text_delta")
        log.write_bytes(b"")
        monkeypatch.setattr(EventLog, "lines", told)

        async def read() -> None:
            headers = {"Last-Event-ID": str(kept.count(b"\n"))}
            answer = await other.client.head(f"/api/v1/runs/{run_id}/events", headers=headers)
            statuses.append(answer.status_code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await looked.wait()
            log.write_bytes(kept)
        await driver.client.delete(f"/api/v1/runs/{run_id}")
    await world.processes.ended()
    assert statuses == [200]


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "1"}])
async def test_an_unknown_parameter_of_events_is_refused(world: World, headers: dict[str, str]) -> None:
    async with gateway(world) as server:
        run_id = (await prompted(server, "hi"))["run_id"]
        answer = await server.client.get(f"/api/v1/runs/{run_id}/events?last_event=2", headers=headers)
    assert answer.status_code == 422
    assert "there is no parameter last_event; did you mean last_event_id?" in answer.json()["error"]["message"]


async def test_every_event_says_of_which_run_and_backend_it_is(world: World) -> None:
    tasks = [{"prompt": "a", "backend": "claude"}, {"prompt": "b", "backend": "codex"}]
    async with gateway(world) as server:
        result = (await server.post("/api/v1/parallel", {"tasks": tasks})).json()
        _, got = await replayed(server, result["run_id"])
    about = {(event["data"]["run_id"], event["data"]["backend"]) for event in got}
    parts = {(part["run_id"], part["backend"]) for part in result["results"]}
    assert about == {*parts, (result["run_id"], "")}


async def test_a_damaged_line_of_the_log_is_passed_over(world: World) -> None:
    async with gateway(world) as server:
        run_id = (await prompted(server, "hi"))["run_id"]
        log = world.home / "runs" / run_id / "events.jsonl"
        first, *others = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(first + b'{"type": "text_del\n[]\n' + b"".join(others))
        _, got = await replayed(server, run_id)
    assert (got[0]["event"], got[-1]["event"]) == ("run_started", "run_finished")
    assert len(got) == 1 + len(others)


async def test_a_listener_of_a_handed_out_run_is_told_that_the_server_stops(world: World) -> None:
    gate = world.fifo("gate")
    asked = agent.prompt({"say": "x"}, {"wait": str(gate)}, {"answer": "later"})
    got: list[Json] = []
    async with gateway(world) as server:
        run_id = (await prompted(server, asked, background=True))["run_id"]
        async with server.client.stream("GET", f"/api/v1/runs/{run_id}/events") as response:
            async for event in events(response):
                got.append(event)
                if event["event"] == "text_delta":
                    server.drain.close()
        refused = await server.post("/api/v1/prompt", {"prompt": "x", "backend": "claude"})
    assert (got[-1]["event"], got[-1]["data"]["error"]["code"]) == ("error", "overloaded")
    assert refused.status_code == 429
    await gate.release()
    async with gateway(world) as server:  # the run went on without its server
        shown = await server.client.get(f"/api/v1/runs/{run_id}", params={"wait_secs": PATIENCE_SECS})
    assert shown.json()["result"]["output"] == "xlater"


async def test_two_hundred_streams_of_one_run_all_get_all_of_it(world: World) -> None:
    gate = world.fifo("gate")
    asked = agent.prompt({"say": "one"}, {"wait": str(gate)}, {"say": "two"})
    counts: list[int] = []
    opened = 0
    everybody = anyio.Event()

    async def read(client: httpx2.AsyncClient, path: str) -> None:
        nonlocal opened
        seen = 0
        async with client.stream("GET", path) as response:
            async for event in events(response):
                seen += event["event"] == "text_delta"
                if event["event"] == "text_delta" and seen == 1:
                    opened += 1
                    if opened == 200:
                        everybody.set()
        counts.append(seen)

    async with gateway(world) as server:
        run_id = (await prompted(server, asked, background=True))["run_id"]
        limits = httpx2.Limits(max_connections=None)
        async with (
            httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(200):
                tasks.start_soon(read, client, f"/api/v1/runs/{run_id}/events")
            await everybody.wait()
            await gate.release()
    assert counts == [2] * 200
