"""Read runs, wait for them, and stop them, whichever process drives them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.finished import browsing
from clinvk.executor.runs import RunRecord, RunState
from clinvk.request import CancelRequest, RunsRequest
from clinvk.response import CancelResult, RunsResult, RunStatus, RunSummary
from clinvk.sessions.model import timestamp
from clinvk.tools import output
from clinvk.tools.app import App
from clinvk.tools.asking import done, heeding
from clinvk.tools.caller import Caller
from clinvk.tools.cut import cut
from clinvk.tools.fields import check_filters, refuse_unused
from clinvk.tools.settle import Result, newest_events, running, saved, settled
from clinvk.tools.waiting import ended, known, stopped_elsewhere

STOP_SECS = 20.0  # how long a cancel waits for the end: grace, sweep and saving on a busy machine
STATUSES = ("completed", "failed", "cancelled", "running", "interrupted", "unread")

UNUSED = {
    "list": ("run_id", "wait_secs"),
    "status": ("query", "backend", "workdir", "status", "wait_secs", "limit", "offset"),
    "wait": ("query", "backend", "workdir", "status", "limit", "offset"),
    "output": ("backend", "workdir", "status", "wait_secs"),
}


async def runs(app: App, request: RunsRequest, caller: Caller) -> RunsResult:
    """List runs, or look at one. Raises ClinvkError(run_not_found, invalid_request)."""
    refuse_unused(request, request.action, UNUSED)
    check_filters(request.backend, request.workdir)
    if request.action == "list":
        return await anyio.to_thread.run_sync(_page, app, request)
    if request.run_id is None:
        raise ClinvkError(
            "invalid_request",
            f"run_id is missing for action {request.action!r}",
            hint="runs(action='list') shows the ids",
            details={"field": "run_id"},
        )
    run_id = app.runs.resolve(request.run_id)
    match request.action:
        case "status":
            return _shown(app, run_id)
        case "wait":
            return await _wait(app, run_id, request, caller)
        case "output":
            return await anyio.to_thread.run_sync(output.page, app, run_id, request)


def _page(app: App, request: RunsRequest) -> RunsResult:
    if request.status is not None and request.status not in STATUSES:
        raise ClinvkError(
            "invalid_request",
            f"status {request.status!r} is none of {', '.join(STATUSES)}",
            hint="leave status out to see all",
            details={"field": "status", "value": request.status, "accepted": list(STATUSES)},
        )
    warnings: list[str] = []
    found: list[_Place] = []
    with browsing(app.runs) as ids:
        for run_id in ids:
            try:
                place = _place(app, run_id, request)
            except ClinvkError as error:
                if app.runs.path(run_id).exists():  # else another process removed it just now
                    warnings.append(error.failure.message)
                continue
            if place is not None:
                found.append(place)
    found.sort(key=lambda place: place[:2])  # unread, then running, then the rest; newest first
    limit = request.limit or 20
    after = request.offset + limit
    shown = (state or _remembered(app, run_id) for *_, run_id, state in found[request.offset : after])
    return RunsResult(
        runs=[summary(state) for state in shown if state is not None],
        total=len(found),
        offset=request.offset,
        next_offset=after if after < len(found) else None,
        warnings=warnings,
    )


_Place = tuple[int, float, str, RunState | None]  # a run in the list, with its state where that was looked at


def _place(app: App, run_id: str, request: RunsRequest) -> _Place | None:
    """Where a run stands; None where it is not listed. Raises ClinvkError when it is damaged, or was removed."""
    brief = app.runs.brief(run_id)
    if brief is not None and request.backend is request.workdir is request.query is None:
        if brief.parent_id is not None or not _is_in(request.status, brief.status, unread=brief.unread):
            return None
        return 0 if brief.unread else 2, -brief.created_at, run_id, None
    state = settled(app, run_id, listed=True)
    if state.record.parent_id is not None or not _matches(app, state, request):
        return None
    rank = 1 if state.status == "running" else 0 if state.unread else 2
    return rank, -state.record.created_at, run_id, state


def _remembered(app: App, run_id: str) -> RunState | None:
    """The state of a run of which only its place was needed; None when it was removed meanwhile."""
    try:
        return settled(app, run_id)
    except ClinvkError:
        return None


def _is_in(wanted: str | None, status: str, *, unread: bool) -> bool:
    if wanted == "unread":
        return unread and status != "running"
    return wanted is None or status == wanted


def _matches(app: App, state: RunState, request: RunsRequest) -> bool:
    record = state.record
    if not _is_in(request.status, state.status, unread=state.unread):
        return False
    if request.backend is request.workdir is request.query is None:
        return True
    family = [record] if record.kind == "prompt" else [record, *_children(app, record.id)]
    if request.backend is not None and all(each.backend != request.backend for each in family):
        return False
    if request.workdir is not None:
        workdir = Path(request.workdir).expanduser()
        if all(Path(each.workdir) != workdir for each in family):
            return False
    return request.query is None or _says(app, family, request.query.casefold())


def _children(app: App, run_id: str) -> list[RunRecord]:
    """What a run of several is made of; what was damaged is passed over."""
    records: list[RunRecord] = []
    for child in app.runs.children(run_id):
        with suppress(ClinvkError):
            records.append(app.runs.state(child).record)
    return records


def _says(app: App, family: Sequence[RunRecord], wanted: str) -> bool:
    """Whether the text stands in a title, an id, or a prompt."""
    if any(wanted in f"{each.title} {each.id}".casefold() for each in family):
        return True
    for each in family:
        asked: object = app.runs.record(each.id).request.get("prompt")  # a finished run is remembered without it
        if isinstance(asked, str) and wanted in asked.casefold():
            return True
    return False


def summary(state: RunState) -> RunSummary:
    """One run as a listing shows it."""
    record, result = state.record, state.result or {}
    error = result.get("error")
    return RunSummary(
        run_id=record.id,
        kind=record.kind,
        status=_status(state),
        unread=state.unread and state.status != "running",
        backend=record.backend,
        title=record.title,
        workdir=record.workdir,
        session_id=record.session_id,
        parent_id=record.parent_id,
        created_at=timestamp(datetime.fromtimestamp(record.created_at, UTC)),
        duration_ms=result.get("duration_ms", result.get("total_duration_ms")),
        error_code=error["code"] if error else None,
    )


def _status(state: RunState) -> RunStatus:
    return "interrupted" if state.status == "unsettled" else state.status


def _shown(app: App, run_id: str) -> RunsResult:
    """A run with its result, or how far it has come; children as they are."""
    state = settled(app, run_id)  # once: when it has ended, somebody else may remove it now
    is_running = state.status == "running"
    result: Result = running(app, state.record) if is_running else saved(app, state.record, state.result)
    cut(result, app.config.output.max_chars)
    children: list[RunSummary] = []
    warnings: list[str] = []
    for child in app.runs.children(run_id):
        try:
            children.append(summary(settled(app, child)))
        except ClinvkError as error:
            warnings.append(error.failure.message)
    if not is_running:
        app.runs.mark_read(run_id)
    return RunsResult(
        run=summary(state.model_copy(update={"unread": is_running})),
        result=result,
        events=newest_events(app.runs.path(run_id)) if state.record.kind == "prompt" else None,
        children=children or None,
        warnings=warnings,
    )


async def _wait(app: App, run_id: str, request: RunsRequest, caller: Caller) -> RunsResult:
    patience = app.config.mcp.wait_secs if request.wait_secs is None else request.wait_secs
    live = app.executor.live.get(run_id)
    with known(app, run_id), anyio.move_on_after(patience):
        if live is None:
            await heeding(app, run_id, caller, partial(ended, app, run_id, caller.listener))
        else:
            with live.heard_by(caller.listener):
                await done(live, caller)
    return _shown(app, run_id)


async def cancel(app: App, request: CancelRequest) -> CancelResult:
    """Stop a run and everything it started, whichever process drives it, and wait until it has ended."""
    run_id = app.runs.resolve(request.run_id)
    state = settled(app, run_id)
    if state.status != "running":
        return CancelResult(run_id=run_id, status=_status(state), already_ended=True)
    live = app.executor.live.get(run_id)
    if live is not None:
        with suppress(ClinvkError):  # its driver is told in any case
            app.runs.mark(run_id, "cancel")
        live.cancel()
    with anyio.move_on_after(STOP_SECS):
        await (live.done.wait() if live is not None else stopped_elsewhere(app, run_id))
    return CancelResult(run_id=run_id, status=_status(settled(app, run_id)))
