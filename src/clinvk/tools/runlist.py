"""A page of the list of runs, read from what is recorded of them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.executor.finished import browsing
from clinvk.executor.runs import RunRecord, RunState
from clinvk.request import RunsRequest
from clinvk.response import RunsResult, RunStatus, RunSummary
from clinvk.sessions.model import timestamp
from clinvk.tools.app import App
from clinvk.tools.fields import check_filters

STATUSES = ("completed", "failed", "cancelled", "running", "interrupted", "unread")


def page(app: App, request: RunsRequest) -> RunsResult:
    """The runs that the request asks for. Raises ClinvkError(invalid_request)."""
    check_filters(request.backend, request.workdir)
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
    state = _state(app, run_id, listed=True)
    if state.record.parent_id is not None or not _matches(app, state, request):
        return None
    rank = 1 if state.status == "running" else 0 if state.unread else 2
    return rank, -state.record.created_at, run_id, state


def _remembered(app: App, run_id: str) -> RunState | None:
    """The state of a run of which only its place was needed; None when it was removed meanwhile."""
    try:
        return _state(app, run_id)
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
        status=status_of(state),
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


def status_of(state: RunState) -> RunStatus:
    """What a caller is told of it."""
    return "interrupted" if state.status == "unsettled" else state.status


def _state(app: App, run_id: str, *, listed: bool = False) -> RunState:
    """As `settled`, without what that needs where a run was judged before."""
    state = app.runs.state(run_id, listed=listed)
    if state.status != "unsettled":
        return state
    from clinvk.tools.settle import settled  # and with it all that judges an output

    return settled(app, run_id, listed=listed)
