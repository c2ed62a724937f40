"""Read and edit sessions."""

from dataclasses import asdict

from clinvk.errors import ClinvkError
from clinvk.events import TokenUsage
from clinvk.request import SessionEditRequest, SessionsRequest
from clinvk.response import SessionEditResult, SessionsResult, SessionSummary, SessionTurn
from clinvk.sessions.model import SESSION_STATUSES, Session, SessionFilter, TurnRecord
from clinvk.tools.app import App
from clinvk.tools.fields import check_filters, refuse_unused

UNUSED = {
    "list": ("session_id",),
    "search": ("session_id",),
    "show": ("query", "backend", "workdir", "tag", "status"),
}
TURN_CHARS = 4_000  # of a prompt and of an answer, when a session is shown; the run's output has all of it


async def sessions(app: App, request: SessionsRequest) -> SessionsResult:
    """A page of the list, a search, or one session with a page of turns. Raises ClinvkError(session_not_found)."""
    import anyio  # the command reads without an event loop

    return await anyio.to_thread.run_sync(read, app, request)


def read(app: App, request: SessionsRequest) -> SessionsResult:
    """The same for who has nothing else to do meanwhile."""
    refuse_unused(request, request.action, UNUSED)
    check_filters(request.backend, request.workdir)
    match request.action:
        case "list":
            return _list(app, request)
        case "search":
            return _search(app, request)
        case "show":
            return _show(app, request)


def _filter(request: SessionsRequest) -> SessionFilter:
    if request.status is not None and request.status not in SESSION_STATUSES:
        raise ClinvkError(
            "invalid_request",
            f"status {request.status!r} is none of {', '.join(SESSION_STATUSES)}",
            hint="leave status out to see all",
            details={"field": "status", "value": request.status, "accepted": list(SESSION_STATUSES)},
        )
    return SessionFilter(
        backend=request.backend, workdir=request.workdir, tag=request.tag, status=request.status, text=None
    )


def _list(app: App, request: SessionsRequest) -> SessionsResult:
    if request.query:
        return _search(app, request)
    page = app.sessions.page(_filter(request), request.limit, request.offset)
    return SessionsResult(
        sessions=[summary(app, session) for session in page.sessions],
        total=page.total,
        limit=request.limit,
        offset=request.offset,
        warnings=app.sessions.warnings(),
    )


def _search(app: App, request: SessionsRequest) -> SessionsResult:
    if not (request.query or "").strip():
        raise ClinvkError(
            "invalid_request", "query is missing for action 'search'", hint="give words to look for",
            details={"field": "query"},
        )  # fmt: skip
    page = app.sessions.search(request.query or "", _filter(request), request.limit, request.offset)
    return SessionsResult(
        sessions=[summary(app, hit.session, hit.snippet) for hit in page.hits],
        total=page.total,
        limit=request.limit,
        offset=request.offset,
        warnings=app.sessions.warnings(),
    )


def _show(app: App, request: SessionsRequest) -> SessionsResult:
    if not request.session_id:
        raise ClinvkError(
            "invalid_request", "session_id is missing for action 'show'", hint="sessions(action='list') shows the ids",
            details={"field": "session_id"},
        )  # fmt: skip
    session = app.sessions.load(app.sessions.resolve(request.session_id))
    turns = app.sessions.turns(session.id, request.offset, request.limit)
    return SessionsResult(
        total=session.turn_count,
        limit=request.limit,
        offset=request.offset,
        session=summary(app, session),
        backend_session_id=session.backend_session_id,
        initial_prompt=session.initial_prompt,
        metadata=session.metadata,
        turns=[_turn(turn) for turn in turns],
        warnings=app.sessions.warnings(),
    )


def summary(app: App, session: Session, snippet: str | None = None) -> SessionSummary:
    """A head as a listing shows it."""
    return SessionSummary(
        id=session.id,
        backend=session.backend,
        title=session.title,
        status="running" if app.sessions.is_running(session.id) else session.status,
        created_at=session.created_at,
        last_used=session.last_used,
        working_dir=session.working_dir or "",
        model=session.model,
        turn_count=session.turn_count,
        token_usage=TokenUsage(**asdict(session.token_usage)),
        cost_usd=session.cost_usd,
        tags=session.tags,
        parent_id=session.parent_id,
        snippet=snippet,
    )


def _turn(turn: TurnRecord) -> SessionTurn:
    return SessionTurn(
        number=turn.number,
        run_id=turn.run_id,
        prompt=_cut(turn.prompt),
        output=_cut(turn.output),
        backend=turn.backend or "",
        model=turn.model,
        status=turn.status,
        started_at=turn.started_at or "",
        ended_at=turn.ended_at,
        token_usage=turn.usage,
        cost_usd=turn.cost_usd,
        error=f"{turn.error.code}: {turn.error.message}" if turn.error else None,
    )


def _cut(text: str) -> str:
    return text if len(text) <= TURN_CHARS else text[:TURN_CHARS] + f"… [{len(text) - TURN_CHARS} more characters]"


async def session_edit(app: App, request: SessionEditRequest) -> SessionEditResult:
    """Fork, tag, untag, rename or delete one session. Raises ClinvkError(session_not_found, session_busy)."""
    import anyio  # as above

    return await anyio.to_thread.run_sync(edit, app, request)


def edit(app: App, request: SessionEditRequest) -> SessionEditResult:
    """The same for who has nothing else to do meanwhile."""
    session_id = app.sessions.resolve(request.session_id)
    _check_edit(request)
    match request.action:
        case "fork":
            session = app.sessions.fork(session_id)
        case "tag":
            session = app.sessions.tag(session_id, request.tags)
        case "untag":
            session = app.sessions.untag(session_id, request.tags)
        case "rename":
            session = app.sessions.rename(session_id, request.title or "")
        case "delete":
            app.sessions.delete(session_id)
            return SessionEditResult(action="delete", deleted=True)
    return SessionEditResult(action=request.action, session=summary(app, session))


def _check_edit(request: SessionEditRequest) -> None:
    """What an action needs must be there, and nothing that it would pass over."""
    needs = {"tag": "tags", "untag": "tags", "rename": "title"}.get(request.action)
    for field, value in (("tags", request.tags), ("title", (request.title or "").strip())):
        if field == needs and not value:
            raise ClinvkError(
                "invalid_request", f"{field} is missing for action {request.action!r}", hint=f"give {field}",
                details={"field": field},
            )  # fmt: skip
        if field != needs and value:
            raise ClinvkError(
                "invalid_request", f"{field} means nothing to action {request.action!r}",
                hint=f"leave {field} out, or give it to an action of its own", details={"field": field},
            )  # fmt: skip
