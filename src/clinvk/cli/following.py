"""Looks at one run, wherever it is driven."""

import sys
from typing import Any

import anyio

from clinvk.awaiting import awaited
from clinvk.cli import driving, exits, parts, results, terminal
from clinvk.cli.call import Call
from clinvk.cli.person import Person
from clinvk.cli.progress import TICK_SECS, ProgressLine
from clinvk.cli.views import whole
from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.events import TextDelta, ToolStarted
from clinvk.request import RunsRequest
from clinvk.response import PromptResult, RunsResult, RunSummary
from clinvk.tools import runs as operations
from clinvk.tools.app import App
from clinvk.tools.asking import heeding
from clinvk.tools.caller import Caller
from clinvk.tools.faults import validated
from clinvk.tools.output import text_of
from clinvk.tools.settle import newest_events, settled
from clinvk.tools.waiting import known


def read(app: App, **wanted: Any) -> RunsResult:
    """One request to `runs`; what is None was not asked."""
    given = {name: value for name, value in wanted.items() if value is not None}
    request = validated(RunsRequest, given, hint="see clinvk runs --help")
    return awaited(operations.runs, app, request, Caller(client="cli", cwd=driving.working_directory()))


def document(result: RunsResult) -> dict[str, Any]:
    """The result as JSON, without what was not asked for."""
    return {name: value for name, value in result.model_dump(mode="json").items() if value is not None}


def show(call: Call, loaded: Loaded, app: App) -> int:
    """State, result and parts of a run."""
    result = read(app, action="status", run_id=call.args.id)
    if call.wants_json():
        call.console.document(document(result))
        return exits.OK
    assert result.run is not None
    call.console.text("\n".join(f"{name}: {value}" for name, value in _facts(result.run).items() if value))
    if isinstance(result.result, PromptResult):
        said = "".join(whole(app, result.result))
        if said:
            call.console.text(f"\n{said.removesuffix(chr(10))}")
        results.tell(call.console, result.result)
    elif result.result is not None:
        parts.say(call, loaded, app, result.result)
    for warning in result.warnings:
        call.console.note(f"clinvk: warning: {warning}")
    return exits.OK


def _facts(run: RunSummary) -> dict[str, str | None]:
    return {
        "run": run.run_id,
        "kind": run.kind,
        "title": run.title,
        "status": run.status,
        "error": run.error_code,
        "backend": run.backend,
        "folder": run.workdir,
        "session": run.session_id,
        "part of": run.parent_id,
        "began": run.created_at,
        "took": results.seconds(run.duration_ms),
    }


def wait(call: Call, loaded: Loaded, app: App) -> int:
    """Wait for the end of a run and show what came of it; the exit code is that of the run."""
    run_id = app.runs.resolve(call.args.id)
    if not awaited(_ended, call, loaded, app, run_id):
        raise ClinvkError(
            "timeout",
            f"run {run_id} still runs after {call.args.timeout:g} s",
            hint=f"wait again, or stop it: clinvk runs cancel {run_id}",
            details={"run_id": run_id},
        )
    result = read(app, action="status", run_id=run_id).result
    assert result is not None
    if call.wants_json():
        call.console.document(result.model_dump(mode="json"))
    elif isinstance(result, PromptResult):
        said = "".join(whole(app, result))
        if said:
            call.console.text(said.removesuffix("\n"))
    else:
        parts.say(call, loaded, app, result)
    if isinstance(result, PromptResult):
        results.tell(call.console, result)
        results.count(call, loaded, [result])
    return results.exit_code(result)


async def _ended(call: Call, loaded: Loaded, app: App, run_id: str) -> bool:
    """Whether it ended in time; meanwhile it is shown, and what it asks is put to the person at the terminal."""
    watched = terminal.is_terminal(sys.stderr, call.environ) and not call.console.quiet
    line = ProgressLine(shown=watched, colour=terminal.colour(loaded, call.environ))
    backend = app.runs.record(run_id).backend

    async def erase() -> None:
        line.erase()

    async def end() -> None:
        while settled(app, run_id).status == "running":
            events = newest_events(app.runs.path(run_id)) if watched else []
            line.hear(backend, _event(events[-1] if events else {}))
            if not person.is_asked:
                line.draw()
            await anyio.sleep(TICK_SECS)

    person = Person(erase)
    ask = person.ask if terminal.can_ask() else None
    caller = Caller(client="cli", cwd=driving.working_directory(), ask=ask)
    try:
        with known(app, run_id), anyio.move_on_after(call.args.timeout):
            await heeding(app, run_id, caller, end)
            return True
    finally:
        line.erase()
    return False


def _event(raw: dict[str, Any]) -> TextDelta | ToolStarted:
    """As much of a recorded event as the line of progress tells."""
    if raw.get("type") == "tool_started":
        return ToolStarted(str(raw.get("tool_id", "")), str(raw.get("name", "")), str(raw.get("detail", "")))
    return TextDelta("")


def output(call: Call, app: App) -> int:
    """All of the answer, a page of it, or the lines that hold a text."""
    args = call.args
    run_id = app.runs.resolve(args.id)
    paged = args.query is not None or args.limit is not None or args.offset is not None
    if not paged and not call.wants_json():
        for piece in text_of(app, run_id):
            call.console.raw(piece)
        call.console.raw("", end=True)
        if settled(app, run_id).status != "running":
            app.runs.mark_read(run_id)
        return exits.OK
    result = read(app, action="output", run_id=run_id, query=args.query, limit=args.limit, offset=args.offset)
    if call.wants_json():
        call.console.document(document(result))
        return exits.OK
    for match in result.matches or ():
        call.console.text(f"{match['offset']}: {match['line']}")
    if result.text:
        call.console.text(result.text.removesuffix("\n"))
    if result.next_offset is not None:
        call.console.note(f"more with --offset {result.next_offset}")
    return exits.OK
