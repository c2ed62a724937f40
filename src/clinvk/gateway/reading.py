"""What can be looked at and put right: backends, sessions, runs."""

from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from clinvk.errors import ClinvkError
from clinvk.gateway.attended import attended
from clinvk.gateway.body import query_of
from clinvk.gateway.replay import Replay
from clinvk.gateway.service import Service, trail_of
from clinvk.request import CancelRequest, RunsRequest, SessionEditRequest, SessionsRequest
from clinvk.response import BackendsResult, CancelResult, RunsResult, SessionEditResult, SessionsResult
from clinvk.tools import backends, runs, sessions

# Fields of the operations' requests that are no query parameters of a route: its path says them, or they mean nothing.
LISTED_SESSIONS = ("action", "session_id")
SHOWN_SESSION = ("action", "session_id", "query", "backend", "workdir", "tag", "status")
EDITED_SESSION = ("action", "session_id", "tags", "title")
LISTED_RUNS = ("action", "run_id", "wait_secs")
SHOWN_RUN = ("action", "run_id", "query", "backend", "workdir", "status", "limit", "offset")
OUTPUT_OF_RUN = ("action", "run_id", "wait_secs", "backend", "workdir", "status")
NO_BODY = (b"", b"{}")  # some clients send an empty object with every POST

Handler = Callable[[Service, Request], Awaitable[ASGIApp]]


def endpoint(service: Service, name: str, handler: Handler) -> Callable[[Request], Awaitable[ASGIApp]]:
    """The handler as a route's endpoint."""

    async def handle(request: Request) -> ASGIApp:
        trail = trail_of(request.scope)
        trail.operation, trail.outcome = name, "completed"
        if (await request.body()).strip() not in NO_BODY:
            raise ClinvkError(
                "invalid_request", "a body means nothing here", hint="leave it out; parameters stand in the query"
            )
        return await handler(service, request)

    return handle


def _json(result: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(result.model_dump_json(), status, media_type="application/json", headers=headers)


async def list_backends(service: Service, request: Request) -> ASGIApp:
    """Every backend on this machine."""
    query_of(request, Nothing)
    result: BackendsResult = await backends.backends(service.app)
    return _json(result)


async def list_sessions(service: Service, request: Request) -> ASGIApp:
    """A page of the sessions, or of those that hold `query`."""
    action = "search" if request.query_params.get("query", "").strip() else "list"
    asked = query_of(request, SessionsRequest, LISTED_SESSIONS, action=action)
    result: SessionsResult = await sessions.sessions(service.app, asked)
    return _json(result)


async def show_session(service: Service, request: Request) -> ASGIApp:
    """One session with a page of its turns."""
    asked = query_of(request, SessionsRequest, SHOWN_SESSION, action="show", session_id=request.path_params["id"])
    result: SessionsResult = await sessions.sessions(service.app, asked)
    return _json(result)


async def delete_session(service: Service, request: Request) -> ASGIApp:
    """Remove a session."""
    asked = query_of(request, SessionEditRequest, EDITED_SESSION, action="delete", session_id=request.path_params["id"])
    result: SessionEditResult = await sessions.session_edit(service.app, asked)
    return _json(result)


async def fork_session(service: Service, request: Request) -> ASGIApp:
    """Make a session that begins as this one."""
    asked = query_of(request, SessionEditRequest, EDITED_SESSION, action="fork", session_id=request.path_params["id"])
    result = await sessions.session_edit(service.app, asked)
    assert result.session is not None
    return _json(result, 201, {"Location": f"/api/v1/sessions/{result.session.id}"})


async def list_runs(service: Service, request: Request) -> ASGIApp:
    """A page of the runs; those whose result nobody fetched come first."""
    asked = query_of(request, RunsRequest, LISTED_RUNS, action="list")
    result = await runs.runs(service.app, asked, service.caller(request))
    return _json(result)


async def show_run(service: Service, request: Request) -> ASGIApp:
    """A run with its result or how far it has come; with `wait_secs` once it has ended, if that is soon enough."""
    action = "wait" if "wait_secs" in request.query_params else "status"
    asked = query_of(request, RunsRequest, SHOWN_RUN, action=action, run_id=request.path_params["id"])
    if asked.wait_secs is not None:
        asked.wait_secs = min(asked.wait_secs, service.wait_secs)
    result: RunsResult = await attended(request, lambda: runs.runs(service.app, asked, service.caller(request)))
    trail_of(request.scope).run_id = result.run.run_id if result.run else ""
    return _json(result)


async def run_output(service: Service, request: Request) -> ASGIApp:
    """A page of a run's whole output; with `query` the lines that hold it."""
    asked = query_of(request, RunsRequest, OUTPUT_OF_RUN, action="output", run_id=request.path_params["id"])
    result = await runs.runs(service.app, asked, service.caller(request))
    return _json(result)


async def run_events(service: Service, request: Request) -> ASGIApp:
    """The events of a run, from the beginning or after `Last-Event-ID`."""
    return Replay(service, request, service.app.runs.resolve(request.path_params["id"]))


async def cancel_run(service: Service, request: Request) -> ASGIApp:
    """Stop a run and everything it started."""
    asked = query_of(request, CancelRequest, ("run_id",), run_id=request.path_params["id"])
    result: CancelResult = await runs.cancel(service.app, asked)
    trail_of(request.scope).run_id = result.run_id
    return _json(result)


class Nothing(BaseModel, extra="forbid"):
    """No parameters."""
