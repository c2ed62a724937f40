"""The truth about a run, whoever drove it: settled when its driver is gone, a snapshot while it runs."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clinvk.backends import registry
from clinvk.errors import ClinvkError, Failure
from clinvk.events import Ending
from clinvk.executor import plan as plans
from clinvk.executor.process import last_sign, lasted_ms, read_ending, started, started_at
from clinvk.executor.runs import RunRecord, RunState
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult, RunStatus
from clinvk.tools import assemble
from clinvk.tools.app import App
from clinvk.tools.conversation import keeping
from clinvk.tools.saying import newest_message

Composite = ParallelResult | ChainResult | CompareResult
Result = PromptResult | Composite
RESULTS: dict[str, type[Result]] = {
    "prompt": PromptResult,
    "parallel": ParallelResult,
    "chain": ChainResult,
    "compare": CompareResult,
}
CUT_OFF = Failure(
    code="interrupted",
    message="it was cut off: clinvk was killed or the machine stopped",
    hint="ask for the same again: what was completed is not done anew",
)
NEWEST_BYTES = 64 * 1024  # of events.jsonl, read from its end
NEWEST_EVENTS = 20


def settled(app: App, run_id: str, *, abandoned: bool = False, listed: bool = False) -> RunState:
    """The state of a run; one whose driver is gone is judged now, from what is on disk.

    `abandoned` says of a child that nobody will start it any more, `listed` that the run was just seen in the folder of
    all. Raises ClinvkError(run_not_found, output_unreadable) for one that is damaged or was removed.
    """
    state = app.runs.state(run_id, listed=listed)
    if state.status != "unsettled":
        return state
    if not abandoned and (_is_awaited(app, state.record) or _goes_on(app, state.record)):
        return state.model_copy(update={"status": "running"})
    with app.runs.owned(run_id) as lock:
        if lock is None or app.runs.result(run_id) is not None:
            return app.runs.state(run_id)
        result = _settle_prompt(app, state.record) if state.record.kind == "prompt" else _settle(app, state.record)
    state = app.runs.state(run_id)
    if state.status == "unsettled":  # it could not be saved, and is worked out again at the next look
        return state.model_copy(update={"status": result.status, "result": result.model_dump(mode="json")})
    return state


def _goes_on(app: App, record: RunRecord) -> bool:
    """Whether a part still runs, though nobody drives the whole any more: its result belongs to that of the whole."""
    return any(settled(app, child, abandoned=True).status == "running" for child in app.runs.children(record.id))


def _is_awaited(app: App, record: RunRecord) -> bool:
    """Whether this is a child that was left in the queue by a former driver, and that its parent's will start."""
    parent = record.parent_id
    return parent is not None and not started(app.runs.path(record.id)) and app.runs.is_driven(parent)


def _settle(app: App, record: RunRecord) -> Composite:
    for child in app.runs.children(record.id):
        settled(app, child, abandoned=True)
    result = _assembled(app, record, _cut_off(app, record.id))
    result.total_duration_ms = _lasted_ms(app, record)
    if result.status == "interrupted":
        result.error = CUT_OFF  # not what its parts say, which were stopped by this
    try:
        app.runs.finish(record.id, result, sync=True)
    except ClinvkError as error:
        result.warnings.append(f"the result could not be saved: {error.failure.message}")
    return result


def _settle_prompt(app: App, record: RunRecord) -> PromptResult:
    ending = read_ending(app.runs.path(record.id)) or _unrecorded(app, record.id)
    try:
        plan = plans.load(record.plan, record.id, registry.get(record.backend), record.request["prompt"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(app, record) from error
    result = app.executor.settle(plan, ending, keeping(app))
    assert isinstance(result, PromptResult)
    return result


def _unrecorded(app: App, run_id: str) -> Ending:
    """The end of a run that its keeper did not write down: the one its caller was told of, or that it was cut off."""
    folder = app.runs.path(run_id)
    lasted = lasted_ms(folder)
    match app.runs.given_up(run_id):
        case "completed":
            return Ending(reason="exited", exit_code=0, duration_ms=lasted)
        case "cancelled":
            return Ending(reason="cancelled", duration_ms=lasted)
        case "failed":
            message = "its result could not be saved when it ended"
            return Ending(reason="disk_full", message=message, duration_ms=lasted)
        case _:
            began = started_at(folder) is not None
            why = "it was cut off: its keeper was killed or the machine stopped" if began else "it was never started"
            return Ending(reason="interrupted", message=why, duration_ms=lasted)


def _lasted_ms(app: App, record: RunRecord) -> int:
    """How long a run of several went on that nobody saw end: until the last sign of one of its parts."""
    signs = (last_sign(app.runs.path(child)) for child in app.runs.children(record.id))
    last = max((sign for sign in signs if sign is not None), default=record.created_at)
    return max(0, round((last - record.created_at) * 1000))


def _assembled(app: App, record: RunRecord, status: RunStatus) -> Composite:
    try:
        return assemble.assembled(record, _children(app, record.id), status)
    except ValidationError as error:
        raise _damaged(app, record) from error


def _damaged(app: App, record: RunRecord) -> ClinvkError:
    folder = app.runs.path(record.id)
    return ClinvkError("output_unreadable", f"the record of run {record.id} is damaged: {folder}", hint="remove it")


def current(app: App, run_id: str) -> Result:
    """The result of a run, or how far it has come."""
    state = settled(app, run_id)
    if state.status == "running":
        return running(app, state.record)
    return saved(app, state.record, state.result)


def saved(app: App, record: RunRecord, unsaved: dict[str, Any] | None = None) -> Result:
    """The result on disk, or `unsaved`. Raises ClinvkError(output_unreadable) when somebody damaged it."""
    raw = app.runs.result(record.id) or unsaved
    if raw is None:
        raise ClinvkError("output_unreadable", f"the result of run {record.id} is missing or damaged")
    try:
        return RESULTS[record.kind].model_validate(raw)
    except ValidationError as error:
        raise ClinvkError("output_unreadable", f"the result of run {record.id} is damaged") from error


def running(app: App, record: RunRecord) -> Result:
    """How far a run has come, with what it has said so far."""
    if record.kind != "prompt":
        return _assembled(app, record, "running")
    text, is_all = newest_message(app.runs.path(record.id))
    return PromptResult(
        run_id=record.id,
        status="running",
        backend=record.backend,
        model=record.model,
        session_id=record.session_id,
        output=text,
        output_truncated=not is_all,
        output_chars=len(text),
        partial=True,
        duration_ms=assemble.elapsed_ms(record),
    )


def _children(app: App, run_id: str) -> dict[int, PromptResult]:
    """The results of a run's children as they are now, by position."""
    found: dict[int, PromptResult] = {}
    for child in app.runs.children(run_id):
        result = current(app, child)
        position = app.runs.state(child).record.position
        if isinstance(result, PromptResult) and position is not None:
            found[position] = result
    return found


def _cut_off(app: App, run_id: str) -> RunStatus:
    return app.runs.given_up(run_id) or ("cancelled" if app.runs.marked(run_id, "cancel") else "interrupted")


def newest_events(folder: Path) -> list[dict[str, Any]]:
    """The last events of a run, oldest first."""
    try:
        with (folder / "events.jsonl").open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - NEWEST_BYTES))
            return _events(log.read())[-NEWEST_EVENTS:]
    except OSError:
        return []


def _events(log: bytes) -> list[dict[str, Any]]:
    """The events of a piece of the log; lines that were cut off are passed over."""
    events: list[dict[str, Any]] = []
    for line in log.split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)  # pyright: ignore[reportUnknownArgumentType]
    return events
