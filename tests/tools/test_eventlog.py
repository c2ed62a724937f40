from itertools import islice
from pathlib import Path

import anyio
import pytest

from clinvk.events import Event, RunStarted, TextDelta
from clinvk.request import PromptRequest
from clinvk.tools import prompt, waiting
from clinvk.tools.app import App, at_rest
from clinvk.tools.eventlog import EventLog
from fakes import agent
from fakes.world import PATIENCE_SECS, World


@pytest.fixture
def app(world: World) -> App:
    return at_rest(world.loaded(), world.environ)


def log_of(app: App, run_id: str) -> Path:
    path = app.runs.path(run_id) / "events.jsonl"
    path.parent.mkdir(parents=True)
    return path


def test_lines_are_read_once_they_are_whole(app: App) -> None:
    path, log = log_of(app, "a" * 16), EventLog(app, "a" * 16)
    assert list(log.lines()) == []
    path.write_bytes(b"1\n2\n3")
    assert list(log.lines()) == [b"1\n", b"2\n"]
    path.write_bytes(b"1\n2\n34\n")
    assert (list(log.lines()), log.read, log.last) == ([b"34\n"], 3, b"34\n")


def test_who_takes_some_lines_gets_the_others_the_next_time(app: App) -> None:
    path, log = log_of(app, "a" * 16), EventLog(app, "a" * 16)
    path.write_bytes(b"1\n2\n3\n")
    assert list(islice(log.lines(), 2)) == [b"1\n", b"2\n"]
    assert list(log.lines()) == [b"3\n"]


def test_a_log_that_is_written_anew_is_not_told_twice(app: App) -> None:
    path, log = log_of(app, "a" * 16), EventLog(app, "a" * 16)
    path.write_bytes(b"1\n2\n3\n")
    assert len(list(log.lines())) == 3
    path.write_bytes(b"1\n")
    assert list(log.lines()) == []
    path.write_bytes(b"1\n2\n3\n4\n")
    assert list(log.lines()) == [b"4\n"]


def test_reading_goes_on_after_the_lines_that_were_read_before(app: App) -> None:
    path, log = log_of(app, "a" * 16), EventLog(app, "a" * 16, 2)
    path.write_bytes(b"1\n2\n")
    assert (list(log.lines()), log.last) == ([], b"2\n")
    path.write_bytes(b"1\n2\n3\n")
    assert list(log.lines()) == [b"3\n"]


@pytest.mark.anyio
async def test_who_waits_in_another_process_is_told_what_begun_and_what_comes(world: World, app: App) -> None:
    here, gate = world.fifo("here"), world.fifo("gate")
    asked = agent.prompt({"reach": str(here)}, {"wait": str(gate)}, {"say": "after"})
    heard: list[Event] = []
    begun = anyio.Event()
    run_id = ""

    def hear(_run_id: str, backend: str, event: Event) -> None:
        assert backend == "claude"
        heard.append(event)
        begun.set()

    with anyio.fail_after(PATIENCE_SECS):
        async with world.app() as driving, anyio.create_task_group() as tasks:
            request = PromptRequest(prompt=asked, backend="claude", wait_secs=0)
            result = await prompt.prompt(driving, request, world.caller())
            run_id = getattr(result, "run_id", "")
            await here.reached()
            tasks.start_soon(waiting.ended, app, run_id, hear)
            await begun.wait()
            await gate.release()
    assert heard[0] == RunStarted(run_id, "claude")
    assert [event.text for event in heard if isinstance(event, TextDelta)] == ["after"]
    assert heard[-1].type == "run_finished"
