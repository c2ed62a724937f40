"""Runs as they are listed, waited for, read and cancelled, in this process and from another."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from clinvk.errors import ClinvkError
from clinvk.events import Event, RunStarted, TextDelta
from clinvk.request import CancelRequest, ParallelRequest, PromptRequest, RunsRequest
from clinvk.response import ParallelResult, PromptResult, RunsResult
from clinvk.tools import output, parallel, prompt, runs, saying
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, Fifo, World

pytestmark = pytest.mark.anyio


async def ask(app: App, world: World, text: str, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, "backend": "claude", **options})
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


async def look(app: App, world: World, action: str, **more: Any) -> RunsResult:
    with anyio.fail_after(PATIENCE_SECS):
        return await runs.runs(app, RunsRequest.model_validate({"action": action, **more}), world.caller())


async def cancel(app: App, run_id: str) -> str:
    with anyio.fail_after(PATIENCE_SECS):
        return (await runs.cancel(app, CancelRequest(run_id=run_id))).status


def ids(found: RunsResult) -> list[str]:
    assert found.runs is not None
    return [run.run_id for run in found.runs]


@asynccontextmanager
async def held(app: App, world: World, name: str = "held", **options: Any) -> AsyncGenerator[tuple[PromptResult, Fifo]]:
    """A handed-out run that goes on until it is let go; then `answer of NAME`."""
    up, go = world.fifo(f"{name}-up"), world.fifo(f"{name}-go")
    text = agent.prompt({"say": "so far"}, {"reach": str(up)}, {"wait": str(go)}, {"say": f", {name}"})
    running = await ask(app, world, text, wait_secs=0, **options)
    world.processes.watch_agent(await up.reached())
    yield running, go


# Listing


async def test_what_nobody_has_read_comes_first_then_what_runs_then_the_rest(world: World) -> None:
    async with world.app() as app:
        read = await ask(app, world, "read")
        async with held(app, world, "unread") as (unread, go):
            live = app.executor.live[unread.run_id]
            await go.release()
            with anyio.fail_after(PATIENCE_SECS):
                await live.done.wait()
        async with held(app, world, "running") as (running, go):
            found = await look(app, world, "list")
            only_unread = await look(app, world, "list", status="unread")
            only_running = await look(app, world, "list", status="running")
            page = await look(app, world, "list", limit=1, offset=1)
            await go.release()
            await look(app, world, "wait", run_id=running.run_id)
    assert ids(found) == [unread.run_id, running.run_id, read.run_id]
    assert (ids(only_unread), ids(only_running)) == ([unread.run_id], [running.run_id])
    assert (ids(page), page.total) == ([running.run_id], 3)


async def test_a_listing_is_filtered(world: World) -> None:
    (world.workdir / "below").mkdir()
    async with world.app() as app:
        one = await ask(app, world, "find the needle", backend="codex")
        two = await ask(app, world, "other", workdir="below")
        three = await ask(app, world, agent.prompt({"exit": 1}, text="fails"))
        filters: list[dict[str, Any]] = [
            {"backend": "codex"},
            {"query": "NEEDLE"},
            {"workdir": str(world.workdir / "below")},
            {"status": "failed"},
            {"backend": "gemini"},
        ]
        found = [ids(await look(app, world, "list", **one)) for one in filters]
    assert found == [[one.run_id], [one.run_id], [two.run_id], [three.run_id], []]


async def test_a_run_of_several_is_found_by_what_its_parts_are(world: World) -> None:
    (world.workdir / "below").mkdir()
    tasks = [
        {"prompt": "first", "backend": "claude"},
        {"prompt": "second line\nwith the Needle", "backend": "codex", "workdir": "below"},
    ]
    async with world.app() as app:
        with anyio.fail_after(PATIENCE_SECS):
            both = await parallel.parallel(app, ParallelRequest.model_validate({"tasks": tasks}), world.caller())
            assert isinstance(both, ParallelResult)
        await ask(app, world, "other")
        filters: list[dict[str, Any]] = [
            {"backend": "codex"},
            {"workdir": str(world.workdir / "below")},
            {"query": "needle"},
            {"query": both.results[1].run_id},
            {"backend": "gemini"},
            {"query": "no such text"},
        ]
        found = [ids(await look(app, world, "list", **one)) for one in filters]
    assert found == [[both.run_id]] * 4 + [[], []]


async def test_a_page_of_runs_says_where_the_next_begins(world: World) -> None:
    async with world.app() as app:
        asked = [(await ask(app, world, str(number))).run_id for number in range(5)]
        pages: list[list[str]] = []
        offset: int | None = 0
        while offset is not None:
            page = await look(app, world, "list", limit=2, offset=offset)
            assert (page.total, page.offset) == (5, offset)
            pages.append(ids(page))
            offset = page.next_offset
    assert pages == [[asked[4], asked[3]], [asked[2], asked[1]], [asked[0]]]


async def test_a_match_far_along_a_line_is_shown_with_where_it_stands(world: World) -> None:
    text = "start\n" + "x" * 50_000 + "needle" + "y" * 50_000
    agent.decide(world.bin, "claude", {"answer": text})
    async with world.app() as app:
        result = await ask(app, world, "one long line")
        found = await look(app, world, "output", run_id=result.run_id, query="Needle")
    assert found.matches is not None
    [match] = found.matches
    assert "needle" in match["line"]
    assert len(match["line"]) == 2_000
    assert text[match["offset"] :].startswith(match["line"])


async def test_children_are_listed_with_their_parent_only(world: World) -> None:
    async with world.app() as app:
        request = ParallelRequest.model_validate({"tasks": [{"prompt": "a", "backend": "claude"}] * 2})
        result = await parallel.parallel(app, request, world.caller())
        assert isinstance(result, ParallelResult)
        found = await look(app, world, "list")
        shown = await look(app, world, "status", run_id=result.run_id)
    assert ids(found) == [result.run_id]
    assert shown.children is not None
    assert [child.run_id for child in shown.children] == [one.run_id for one in result.results]


@pytest.mark.parametrize("damage", ["request", "plan", "result", "stranger", "empty", "file"])
async def test_damage_is_named_and_never_stops_a_listing(world: World, damage: str) -> None:
    async with world.app() as app:
        good = await ask(app, world, "good")
        bad = await ask(app, world, "bad")
    folder = world.home / "runs" / bad.run_id
    match damage:
        case "request":
            (folder / "request.json").write_bytes(b"{")
        case "plan":
            record = json.loads((folder / "request.json").read_bytes())
            (folder / "request.json").write_text(json.dumps({**record, "plan": {}}), encoding="utf-8")
            (folder / "result.json").unlink()
        case "result":
            (folder / "result.json").write_bytes(b'{"status": "completed", "run_id": 7}')
        case "stranger":
            (world.home / "runs" / "lost+found").mkdir()
        case "empty":
            (world.home / "runs" / "00112233").mkdir()
        case _:
            (world.home / "runs" / "notes.txt").touch()
    async with world.app() as app:
        found = await look(app, world, "list")
    assert good.run_id in ids(found)
    assert damage == "result" or len(found.warnings) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("request.json", b"{"), ("result.json", b'{"status": "completed", "run_id": 7}'), ("request.json", None)],
)
async def test_a_damaged_run_is_an_error_that_names_it(world: World, name: str, content: bytes | None) -> None:
    async with world.app() as app:
        bad = await ask(app, world, "bad")
    path = world.home / "runs" / bad.run_id / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await look(app, world, "status", run_id=bad.run_id)
    assert bad.run_id in refused.value.failure.message


async def test_a_damaged_child_is_named_and_does_not_hide_its_parent(world: World) -> None:
    async with world.app() as app:
        request = ParallelRequest.model_validate({"tasks": [{"prompt": text, "backend": "claude"} for text in "ab"]})
        whole = await parallel.parallel(app, request, world.caller())
        assert isinstance(whole, ParallelResult)
        bad, good = app.runs.children(whole.run_id)
    (world.home / "runs" / bad / "request.json").write_bytes(b"{")
    async with world.app() as app:
        shown = await look(app, world, "status", run_id=whole.run_id)
    assert isinstance(shown.result, ParallelResult)
    assert [part.output for part in shown.result.results] == ["echo: a", "echo: b"]
    assert [child.run_id for child in shown.children or ()] == [good]
    assert [bad in warning for warning in shown.warnings] == [True]


async def test_an_unknown_status_an_unknown_run_and_a_missing_id_are_refused(world: World) -> None:
    async with world.app() as app:
        refusals: list[str] = []
        for action, more in (
            ("list", {"status": "done"}),
            ("status", {"run_id": "ffff"}),
            ("wait", {}),
            ("output", {"run_id": "../../etc"}),
        ):
            with pytest.raises(ClinvkError) as refused:
                await look(app, world, action, **more)
            refusals.append(refused.value.failure.code)
        with pytest.raises(ClinvkError) as refused:
            await cancel(app, "ffff")
    assert refusals == ["invalid_request", "run_not_found", "invalid_request", "run_not_found"]
    assert refused.value.failure.code == "run_not_found"


# One run


async def test_a_running_run_shows_what_it_has_said_so_far(world: World) -> None:
    async with world.app() as app, held(app, world) as (running, go):
        with anyio.fail_after(PATIENCE_SECS):
            while not (shown := await look(app, world, "status", run_id=running.run_id)).events:
                await anyio.lowlevel.checkpoint()
            while "so far" not in json.dumps(shown.events):
                shown = await look(app, world, "status", run_id=running.run_id)
                await anyio.lowlevel.checkpoint()
        output = await look(app, world, "output", run_id=running.run_id)
        waited = await look(app, world, "wait", run_id=running.run_id, wait_secs=0)
        await go.release()
        ended = await look(app, world, "wait", run_id=running.run_id)
    assert isinstance(shown.result, PromptResult)
    assert isinstance(waited.result, PromptResult)
    assert isinstance(ended.result, PromptResult)
    assert (shown.result.status, shown.result.output, shown.result.partial) == ("running", "so far", True)
    assert (output.text, output.next_offset) == ("so far", None)
    assert waited.result.status == "running"
    assert (ended.result.status, ended.result.output) == ("completed", "so far, held")


async def test_a_run_that_has_said_much_shows_it_from_the_beginning(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    pieces = [f"piece {number}, " for number in range(50)]
    text = agent.prompt(*({"say": piece} for piece in pieces), {"reach": str(up)}, {"wait": str(go)})
    async with world.app() as app:
        running = await ask(app, world, text, wait_secs=0)
        await up.reached()
        with anyio.fail_after(PATIENCE_SECS):
            while True:
                shown = await look(app, world, "status", run_id=running.run_id)
                assert isinstance(shown.result, PromptResult)
                if pieces[-1] in shown.result.output:
                    break
                await anyio.lowlevel.checkpoint()
        await go.release()
    assert (shown.result.output, shown.result.output_truncated) == ("".join(pieces), False)
    assert shown.result.output_chars == len("".join(pieces))


async def test_what_is_read_of_a_message_while_the_run_goes_on_stands_there_when_it_has_ended(world: World) -> None:
    steps: list[agent.Step] = [{"answer": "first I look"}]
    gates = [(world.fifo(f"up-{name}"), world.fifo(f"go-{name}")) for name in "abc"]
    for (up, go), text in zip(gates, ("the answer ", "is ☃ forty-two", "!"), strict=True):
        steps += [{"say": text}, {"reach": str(up)}, {"wait": str(go)}]
    pages: list[RunsResult] = []
    async with world.app() as app:
        running = await ask(app, world, agent.prompt(*steps), wait_secs=0)
        for (up, go), said in zip(gates, ("the answer ", "is ☃ forty-two", "!"), strict=True):
            await up.reached()
            with anyio.fail_after(PATIENCE_SECS):
                while not (page := await look(app, world, "output", run_id=running.run_id, offset=4)).text or (
                    not page.text.endswith(said[-3:])
                ):
                    await anyio.lowlevel.checkpoint()
            found = await look(app, world, "output", run_id=running.run_id, query="answer")
            shown = await look(app, world, "status", run_id=running.run_id)
            assert found.matches is not None
            assert [match["offset"] for match in found.matches] == [0]
            assert isinstance(shown.result, PromptResult)
            assert (shown.result.output[4:], shown.result.output_chars) == (page.text, page.total_chars)
            assert page.warnings == [output.SO_FAR]
            pages.append(page)
            await go.release()
        ended = await look(app, world, "wait", run_id=running.run_id)
        pages.append(await look(app, world, "output", run_id=running.run_id, offset=4))
    assert isinstance(ended.result, PromptResult)
    assert ended.result.output == "the answer is ☃ forty-two!"
    assert [page.text for page in pages] == ["answer ", "answer is ☃ forty-two", *["answer is ☃ forty-two!"] * 2]
    assert (pages[-1].total_chars, pages[-1].warnings) == (len(ended.result.output), [])


async def test_a_message_that_was_said_before_much_else_is_still_the_newest(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    steps: list[agent.Step] = [{"answer": "first"}, {"answer": "the newest"}, {"reach": str(up)}, {"wait": str(go)}]
    async with world.app() as app:
        running = await ask(app, world, agent.prompt(*steps), wait_secs=0)
        await up.reached()
        log = app.runs.path(running.run_id) / "events.jsonl"
        with anyio.fail_after(PATIENCE_SECS):
            while b"the newest" not in log.read_bytes():
                await anyio.lowlevel.checkpoint()
        with log.open("ab") as more:
            more.write(b'{"type":"reasoning","text":"hm"}\n' * (saying.TAIL_BYTES // 20))
        page = await look(app, world, "output", run_id=running.run_id)
        await go.release()
    assert page.text == "the newest"


async def test_a_long_answer_is_read_while_it_is_written(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    steps: list[agent.Step] = [{"say": "☃" * 300_000}, {"reach": str(up)}, {"wait": str(go)}, {"say": "!"}]
    async with world.app() as app:
        running = await ask(app, world, agent.prompt(*steps), wait_secs=0)
        await up.reached()
        with anyio.fail_after(PATIENCE_SECS):
            while (page := await look(app, world, "output", run_id=running.run_id, offset=270_000)).text == "":
                await anyio.lowlevel.checkpoint()
        await go.release()
        await look(app, world, "wait", run_id=running.run_id)
        ended = await look(app, world, "output", run_id=running.run_id, offset=299_999)
    assert set(page.text or "") == {"☃"}
    assert ended.text == "☃!"


async def test_another_process_sees_waits_for_and_reads_a_run(world: World) -> None:
    results: list[RunsResult] = []
    async with world.app() as app, held(app, world) as (running, go), world.app() as other:
        found = await look(other, world, "list")
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                results.append(await look(other, world, "wait", run_id=running.run_id[:6]))

            tasks.start_soon(wait)
            await go.release()
        [waited] = results
        again = await look(app, world, "list")
    assert found.runs is not None
    assert [(run.run_id, run.status, run.unread) for run in found.runs] == [(running.run_id, "running", False)]
    assert isinstance(waited.result, PromptResult)
    assert waited.result.output == "so far, held"
    assert again.runs is not None
    assert [run.unread for run in again.runs] == [False]


async def test_who_waits_hears_the_events(world: World) -> None:
    heard: list[str] = []

    def listen(_run: str, _backend: str, event: Event) -> None:
        heard.append(event.type)

    async with world.app() as app, held(app, world) as (running, go), anyio.create_task_group() as tasks:
        request = RunsRequest(action="wait", run_id=running.run_id)
        tasks.start_soon(runs.runs, app, request, world.caller(listen))
        await anyio.lowlevel.checkpoint()
        await go.release()
    assert heard[-1] == "run_finished"


async def test_who_waits_for_what_another_process_drives_hears_the_events(world: World) -> None:
    heard: list[Event] = []
    begun = anyio.Event()

    def listen(_run: str, backend: str, event: Event) -> None:
        assert backend == "claude"
        heard.append(event)
        begun.set()

    async with (
        world.app() as app,
        held(app, world) as (running, go),
        world.app() as other,
        anyio.create_task_group() as tasks,
    ):
        request = RunsRequest(action="wait", run_id=running.run_id)
        tasks.start_soon(runs.runs, other, request, world.caller(listen))
        with anyio.fail_after(PATIENCE_SECS):
            await begun.wait()
        await go.release()
    assert heard[0] == RunStarted(running.run_id, "claude")
    assert TextDelta(", held") in heard


# Output


async def test_who_comes_late_is_told_what_has_begun(world: World) -> None:
    heard: list[Event] = []
    async with world.app() as app, held(app, world) as (running, go):
        request = RunsRequest(action="wait", run_id=running.run_id, wait_secs=0)
        await runs.runs(app, request, world.caller(lambda _run_id, _backend, event: heard.append(event)))
        await go.release()
    assert heard[:1] == [RunStarted(running.run_id, "claude")]


async def test_the_output_is_read_by_pages_and_searched(world: World) -> None:
    lines = [f"line {number} ☃ {'needle' if number % 100 == 7 else 'hay'}" for number in range(20_000)]
    text = "\n".join(lines)
    agent.decide(world.bin, "claude", {"answer": text})
    async with world.app() as app:
        result = await ask(app, world, "long")
        pages: list[str] = []
        offset: int | None = 0
        while offset is not None:
            page = await look(app, world, "output", run_id=result.run_id, offset=offset, limit=150_000)
            pages.append(page.text or "")
            offset = page.next_offset
        found = await look(app, world, "output", run_id=result.run_id, query="NEEDLE", limit=3)
        more = await look(app, world, "output", run_id=result.run_id, query="needle", offset=found.next_offset, limit=1)
        every = await look(app, world, "output", run_id=result.run_id, query="needle", limit=200_000)
        none = await look(app, world, "output", run_id=result.run_id, query="no such thing")
        beyond = await look(app, world, "output", run_id=result.run_id, offset=10_000_000)
    assert len(text) > 300_000
    assert "".join(pages) == text
    assert found.matches is not None
    assert [match["line"] for match in found.matches] == [lines[7], lines[107], lines[207]]
    assert [text[match["offset"] :].startswith(match["line"]) for match in found.matches] == [True] * 3
    assert more.matches is not None
    assert [match["line"] for match in more.matches] == [lines[307]]
    assert every.matches is not None
    assert (len(every.matches), every.next_offset is not None) == (100, True)
    assert (none.matches, none.next_offset) == ([], None)
    assert (beyond.text, beyond.next_offset, beyond.total_chars) == ("", None, len(text))


async def test_a_result_counts_as_read_when_the_end_of_its_output_was_shown(world: World) -> None:
    async with world.app() as app:
        async with held(app, world) as (running, go):
            live = app.executor.live[running.run_id]
            await go.release()
            with anyio.fail_after(PATIENCE_SECS):
                await live.done.wait()
        unread: list[bool] = []
        for page in ({"offset": 1_000}, {"limit": 3}, {"query": "held"}, {"offset": 3}):
            await look(app, world, "output", run_id=running.run_id, **page)
            unread.append(app.runs.state(running.run_id).unread)
    assert unread == [True, True, True, False]


async def test_the_output_of_a_parallel_run_is_that_of_its_children(world: World) -> None:
    async with world.app() as app:
        request = ParallelRequest.model_validate({"tasks": [{"prompt": "a", "backend": "claude"}]})
        result = await parallel.parallel(app, request, world.caller())
        assert isinstance(result, ParallelResult)
        with pytest.raises(ClinvkError) as refused:
            await look(app, world, "output", run_id=result.run_id)
    assert result.results[0].run_id in (refused.value.failure.hint or "")


# Cancelling


WHERE = pytest.mark.parametrize("where", ["here", "elsewhere"])


@WHERE
async def test_a_running_run_is_cancelled(world: World, where: str) -> None:
    async with world.app() as app, world.app() as other, held(app, world) as (running, _):
        status = await cancel(app if where == "here" else other, running.run_id)
        found = await look(other, world, "wait", run_id=running.run_id)
        await world.processes.ended()
    assert isinstance(found.result, PromptResult)
    assert (status, found.result.status, found.result.output) == ("cancelled", "cancelled", "so far")


@WHERE
async def test_a_queued_run_is_cancelled_without_ever_being_started(world: World, where: str) -> None:
    async with world.app(limits__max_concurrent=1) as app, world.app() as other, held(app, world) as (first, go):
        queued = await ask(app, world, "never", wait_secs=0)
        status = await cancel(app if where == "here" else other, queued.run_id)
        await go.release()
        await look(app, world, "wait", run_id=first.run_id)
        found = await look(other, world, "status", run_id=queued.run_id)
    assert isinstance(found.result, PromptResult)
    assert (status, found.result.status, found.result.partial) == ("cancelled", "cancelled", False)
    assert len(world.calls()) == 1


@WHERE
async def test_a_run_that_waits_for_another_login_is_cancelled(world: World, where: str) -> None:
    """Its place is taken already, its process not yet begun."""
    home = world.root.parent / "home" / ".claude"
    home.mkdir()
    (home / ".credentials.json").write_text("{}", encoding="utf-8")
    up, go = world.fifo("up"), world.fifo("go")
    async with world.app() as app, world.app() as other:
        silent = await ask(app, world, agent.prompt({"reach": str(up)}, {"wait": str(go)}), wait_secs=0)
        next_one = await ask(app, world, agent.prompt({"hang": True}), wait_secs=0)
        status = await cancel(app if where == "here" else other, next_one.run_id)
        await up.reached()
        await go.release()
        await look(app, world, "wait", run_id=silent.run_id)
    assert status == "cancelled"


@WHERE
async def test_an_ended_run_stays_as_it_is(world: World, where: str) -> None:
    async with world.app() as app, world.app() as other:
        result = await ask(app, world, "hello")
        with anyio.fail_after(PATIENCE_SECS):
            answer = await runs.cancel(app if where == "here" else other, CancelRequest(run_id=result.run_id))
        found = await look(app, world, "status", run_id=result.run_id)
    assert (answer.status, answer.already_ended) == ("completed", True)
    assert isinstance(found.result, PromptResult)
    assert found.result.status == "completed"


async def test_a_parallel_run_is_cancelled_from_another_process_with_what_it_had_not_begun(world: World) -> None:
    up = world.fifo("up")
    tasks = [agent.prompt({"spawn": ["daemon"]}, {"reach": str(up)}, {"hang": True}), "never", "never either"]
    async with world.app() as app, world.app() as other:
        request = ParallelRequest.model_validate(
            {"tasks": [{"prompt": text, "backend": "claude"} for text in tasks], "max_parallel": 1, "wait_secs": 0}
        )
        running = await parallel.parallel(app, request, world.caller())
        assert isinstance(running, ParallelResult)
        world.processes.watch_agent(await up.reached())
        status = await cancel(other, running.run_id)
        found = await look(other, world, "status", run_id=running.run_id)
        await world.processes.ended()
    assert isinstance(found.result, ParallelResult)
    assert (status, [one.status for one in found.result.results]) == ("cancelled", ["cancelled"] * 3)
    assert len(world.calls()) == 1


async def test_many_cancel_at_once(world: World) -> None:
    statuses: list[str] = []
    async with world.app() as app, world.app() as other, held(app, world) as (running, _):

        async def one(by: App) -> None:
            statuses.append(await cancel(by, running.run_id))

        async with anyio.create_task_group() as tasks:
            for by in (app, other) * 3:
                tasks.start_soon(one, by)
        await world.processes.ended()
    assert statuses == ["cancelled"] * 6
