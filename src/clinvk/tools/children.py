"""Child runs of a parallel, chain or compare run: begun, or found again after their driver was lost."""

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.executor.process import stop
from clinvk.request import PromptOptions
from clinvk.response import PromptResult
from clinvk.tools import assemble
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.prompt import refused, start
from clinvk.tools.settle import saved, settled

LOOK_SECS = 0.1


async def child(app: App, parent: LiveRun, options: PromptOptions, caller: Caller, position: int) -> PromptResult:
    """The result of one child; a refusal is a result too, so that its siblings go on."""
    if is_cancelled(app, parent):
        return assemble.not_started(options.backend or "", "cancelled", options.model)
    before = _begun(app, parent, position)
    if before is not None:
        return await _followed(app, before, parent)
    try:
        live = start(app, options, caller, parent=parent, position=position)
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
    for run_id in app.runs.children(parent.record.id):
        if app.runs.record(run_id).position == position:
            return run_id
    return None


async def _followed(app: App, run_id: str, parent: LiveRun) -> PromptResult:
    """The result of a child that a former driver began; cancelled with its parent."""
    while settled(app, run_id).status == "running":
        if is_cancelled(app, parent):
            stop(app.runs.path(run_id))
        await anyio.sleep(LOOK_SECS)
    result = saved(app, app.runs.record(run_id))
    assert isinstance(result, PromptResult)
    return result
