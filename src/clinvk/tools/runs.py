"""Read runs, wait for them, and stop them, whichever process drives them."""

from contextlib import suppress
from functools import partial

import anyio

from clinvk.errors import ClinvkError
from clinvk.request import CancelRequest, RunsRequest
from clinvk.response import CancelResult, RunsResult, RunSummary
from clinvk.tools import output
from clinvk.tools.app import App
from clinvk.tools.asking import done, heeding
from clinvk.tools.caller import Caller
from clinvk.tools.cut import cut
from clinvk.tools.fields import refuse_unused
from clinvk.tools.runlist import page, status_of, summary
from clinvk.tools.settle import Result, newest_events, running, saved, settled
from clinvk.tools.waiting import ended, known, stopped_elsewhere

STOP_SECS = 20.0  # how long a cancel waits for the end: grace, sweep and saving on a busy machine

UNUSED = {
    "list": ("run_id", "wait_secs"),
    "status": ("query", "backend", "workdir", "status", "wait_secs", "limit", "offset"),
    "wait": ("query", "backend", "workdir", "status", "limit", "offset"),
    "output": ("backend", "workdir", "status", "wait_secs"),
}


async def runs(app: App, request: RunsRequest, caller: Caller) -> RunsResult:
    """List runs, or look at one. Raises ClinvkError(run_not_found, invalid_request)."""
    refuse_unused(request, request.action, UNUSED)
    if request.action == "list":
        return await anyio.to_thread.run_sync(page, app, request)
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
        return CancelResult(run_id=run_id, status=status_of(state), already_ended=True)
    live = app.executor.live.get(run_id)
    if live is not None:
        with suppress(ClinvkError):  # its driver is told in any case
            app.runs.mark(run_id, "cancel")
        live.cancel()
    with anyio.move_on_after(STOP_SECS):
        await (live.done.wait() if live is not None else stopped_elsewhere(app, run_id))
    return CancelResult(run_id=run_id, status=status_of(settled(app, run_id)))
