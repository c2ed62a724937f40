"""Child runs of a parallel, chain or compare run: begun, or found again after their driver was lost."""

import os

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.executor.process import started, stop
from clinvk.request import PromptOptions
from clinvk.response import PromptResult
from clinvk.tools import assemble
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.prompt import failed, refused, rerun, start
from clinvk.tools.settle import saved, settled

LOOK_SECS = 0.1


async def child(app: App, parent: LiveRun, options: PromptOptions, caller: Caller, position: int) -> PromptResult:
    """The result of one child; a refusal is a result too, so that its siblings go on."""
    if is_cancelled(app, parent):
        return assemble.not_started(options.backend or "", "cancelled", options.model)
    before = _begun(app, parent, position)
    try:
        if before is None:
            live = start(app, options, caller, parent=parent, position=position)
        else:
            found = _taken_up(app, before, parent, caller)
            if found is None:
                return await _followed(app, before, parent)
            live = found
    except ClinvkError as error:
        return refused(options, error)
    await live.done.wait()
    assert isinstance(live.result, PromptResult)
    return live.result


def is_cancelled(app: App, parent: LiveRun) -> bool:
    """Whether the run was cancelled, by this process or another."""
    return parent.cancelled or app.runs.marked(parent.record.id, "cancel")


def _begun(app: App, parent: LiveRun, position: int) -> str | None:
    """The child that a former driver of this run began at this position."""
    own = {live.record.id for live in parent.children}  # else the time to start a child would grow with their number
    for run_id in app.runs.children(parent.record.id):
        if run_id not in own and app.runs.record(run_id).position == position:
            return run_id
    return None


def _taken_up(app: App, run_id: str, parent: LiveRun, caller: Caller) -> LiveRun | None:
    """A child that a former driver left in the queue, now driven here; None when it was started, or is driven."""
    with app.runs.owned(run_id) as lock:
        if lock is None or app.runs.result(run_id) is not None or started(app.runs.path(run_id)):
            return None
        record = app.runs.record(run_id)
        live = app.executor.adopt(
            record, os.dup(lock), lambda live: rerun(app, live, caller), lambda failure: failed(record, failure)
        )
    parent.adopt_child(live)
    return live


async def _followed(app: App, run_id: str, parent: LiveRun) -> PromptResult:
    """The result of a child that a former driver began; cancelled with its parent."""
    while settled(app, run_id).status == "running":
        if is_cancelled(app, parent):
            stop(app.runs.path(run_id))
        await anyio.sleep(LOOK_SECS)
    result = saved(app, app.runs.record(run_id))
    assert isinstance(result, PromptResult)
    return result
