"""What parallel, chain and compare have in common: one record, one driver, one result made of child results."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from clinvk.errors import ClinvkError, Failure
from clinvk.executor.live import LiveRun
from clinvk.executor.runs import RunRecord
from clinvk.request import ChainRequest, CompareRequest, ParallelRequest
from clinvk.response import ChainResult, CompareResult, ParallelResult
from clinvk.tools import assemble
from clinvk.tools.app import App, new_id
from clinvk.tools.attach import cut_off_twin
from clinvk.tools.caller import Caller
from clinvk.tools.prepare import check_depth, fingerprint
from clinvk.tools.waiting import answered

Composite = ParallelResult | ChainResult | CompareResult
Result = TypeVar("Result", bound=Composite)
Drive = Callable[[App, LiveRun, Caller], Awaitable[Result]]


async def run(
    app: App,
    request: ParallelRequest | ChainRequest | CompareRequest,
    caller: Caller,
    kind: type[Result],
    drive: Drive[Result],
) -> Result:
    """Record the run, drive it in the background and wait for it as long as the caller does."""
    check_depth(app)
    name = _kind(kind)
    mark = fingerprint(app, name, request.model_dump(exclude_defaults=True), caller)
    wait = (request.wait_secs, request.fresh, mark)
    return await answered(app, kind, caller, wait, lambda: _begin(app, request, caller, name, mark, drive))


def _kind(result: type[BaseModel]) -> Literal["parallel", "chain", "compare"]:
    if result is ParallelResult:
        return "parallel"
    return "chain" if result is ChainResult else "compare"


def _begin(
    app: App,
    request: ParallelRequest | ChainRequest | CompareRequest,
    caller: Caller,
    kind: Literal["parallel", "chain", "compare"],
    mark: str,
    drive: Drive[Result],
) -> LiveRun:
    record = RunRecord(
        id=new_id(),
        kind=kind,
        created_at=time.time(),
        client=caller.client,
        workdir=str(caller.cwd),
        title=_title(request),
        fingerprint=mark,
        request=request.model_dump(exclude_defaults=True),
    )
    before = None if request.fresh else cut_off_twin(app, mark)
    live = app.executor.host(record, work(app, caller, drive), lambda failure: failed(record, failure))
    if before is not None:
        _continue(app, record.id, before)
    return live


def _continue(app: App, run_id: str, before: str) -> None:
    """Take over what a run of the same request completed before it was cut off; it need not be done again."""
    for child in app.runs.children(before):
        if app.runs.state(child).status == "completed":
            app.runs.add_child(run_id, child)
    app.runs.mark_read(before)


def work(app: App, caller: Caller, drive: Drive[Result]) -> Callable[[LiveRun], Awaitable[BaseModel]]:
    """What drives a run, saving its result at the end."""

    async def driven(live: LiveRun) -> BaseModel:
        live.stage = "running"
        result = await drive(app, live, caller)
        result.warnings += _taken_over(app, live.record.id)
        if result.status == "cancelled":
            result.error = live.why or result.error
        try:
            app.runs.finish(live.record.id, result, sync=live.handed)
        except ClinvkError as error:
            result.warnings.append(f"the result could not be saved: {error.failure.message}")
            app.runs.give_up(live.record.id, result.status)
        return result

    return driven


def _taken_over(app: App, run_id: str) -> list[str]:
    former = {app.runs.record(child).parent_id for child in app.runs.children(run_id)} - {run_id}
    return [f"continues run {before}, which was cut off: what it had completed was not done again" for before in former]


def caller_of(record: RunRecord) -> Caller:
    """The caller of a recorded run, for whoever drives it on."""
    return Caller(client=record.client, cwd=Path(record.workdir))


def failed(record: RunRecord, failure: Failure) -> Composite:
    """The result of a run that could not be driven to its end."""
    return assemble.assembled(record, {}, "failed").model_copy(update={"error": failure})


def _title(request: ParallelRequest | ChainRequest | CompareRequest) -> str:
    match request:
        case ParallelRequest():
            return f"{len(request.tasks)} tasks: {request.tasks[0].prompt[:60]}"
        case ChainRequest():
            return f"{len(request.steps)} steps: {request.steps[0].prompt[:60]}"
        case CompareRequest():
            return request.prompt[:80]
