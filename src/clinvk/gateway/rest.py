"""The operations that start runs: POST /api/v1/{prompt,parallel,chain,compare}.

A plain call waits for its run, at most as long as server.request_timeout_secs; when its client leaves, the run is
cancelled. With `background` or `Prefer: respond-async` it answers 202 and the run goes on. A streamed call answers with
the events as they come and the result at the end.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Scope

from clinvk.errors import ClinvkError, Failure
from clinvk.executor.live import Listener
from clinvk.gateway import answers, chat
from clinvk.gateway.attended import attended
from clinvk.gateway.body import parsed
from clinvk.gateway.calls import Call, ChainCall, CompareCall, Operation, ParallelCall, Planned, PromptCall, Result
from clinvk.gateway.feed import Said
from clinvk.gateway.service import Service, Trail, parts, trail_of
from clinvk.gateway.stream import SSE, Framing, Ndjson, Sse
from clinvk.gateway.streamed import Streamed
from clinvk.request import PromptOptions

Work = Callable[[Listener | None], Awaitable[Result]]


def endpoint(service: Service, operation: Operation) -> Callable[[Request], Awaitable[ASGIApp]]:
    """The handler of one operation."""

    async def handle(request: Request) -> ASGIApp:
        trail = trail_of(request.scope)
        trail.operation = operation.name
        service.drain.check()
        call = await parsed(request, operation.call)
        _note(trail, call)
        _check_headers(request)
        _check_background(request, call)
        patience = _patience(service, request, call)
        asked = operation.asked(call, patience)

        async def work(listener: Listener | None) -> Result:
            return _worded(await operation.run(service.app, asked, service.caller(request, listener)))

        framing = _framing(request, call) if patience > 0 else None
        if framing is not None:
            return Streamed(request, work, Events(service, framing, patience), trail.ended)
        # Without patience there is nothing to wait for, and the run is to go on when the client leaves.
        result = await attended(request, lambda: work(None)) if patience > 0 else await work(None)
        trail.ended(result)
        return _answer(service, result, patience)

    return handle


def _worded(result: Result) -> Result:
    """The result with hints for callers over HTTP."""
    for each in [] if isinstance(result, Planned) else [result, *parts(result)]:
        each.error = each.error and answers.in_words_of_http(each.error)
    return result


def _note(trail: Trail, call: Call) -> None:
    match call:
        case PromptCall():
            options: Sequence[PromptOptions] = [call]
        case ParallelCall():
            options = call.tasks
        case ChainCall():
            options = call.steps
        case CompareCall():
            backends: Sequence[str | None] = call.backends or [None]
            options = [PromptOptions(prompt=call.prompt, backend=name, workdir=call.workdir) for name in backends]
    trail.workdir = ",".join(dict.fromkeys(option.workdir for option in options if option.workdir))
    trail.backend = ",".join(dict.fromkeys(option.backend for option in options if option.backend))
    trail.prompts = list(dict.fromkeys(option.prompt for option in options))


def _check_headers(request: Request) -> None:
    """Raises ClinvkError(invalid_request) for what the chat APIs take from a header, and this one from the body."""
    for header, field in {chat.SESSION_HEADER: "session_id", chat.WORKDIR_HEADER: "workdir"}.items():
        if header in request.headers:
            raise ClinvkError(
                "invalid_request",
                f"the header {header} means nothing here",
                hint=f"give {field} in the body",
                details={"field": header},
            )


def _check_background(request: Request, call: Call) -> None:
    """A call that answers at once neither waits nor streams. Raises ClinvkError(invalid_request)."""
    if not (call.background or _prefers_no_wait(request)):
        return
    accepted = request.headers.get("accept", "")
    asked = {
        "wait_secs": bool(call.wait_secs),
        "output_format": call.output_format == "stream-json",
        "Accept": SSE in accepted and "json" not in accepted and "*/*" not in accepted,
    }
    for name, is_asked in asked.items():
        if is_asked:
            how = "background: true" if call.background else "Prefer: respond-async"
            raise ClinvkError(
                "invalid_request",
                f"{name} means nothing with {how}, which answers at once",
                hint="leave one of them out; GET /api/v1/runs/{id}?wait_secs= waits, .../events streams",
                details={"field": name},
            )


def _prefers_no_wait(request: Request) -> bool:
    preferred = ",".join(request.headers.getlist("prefer")).split(",")
    return "respond-async" in [part.strip().lower() for part in preferred]


def _patience(service: Service, request: Request, call: Call) -> float:
    """How long the call waits for its run; not at all when the client asked for that."""
    if call.background or _prefers_no_wait(request):
        return 0.0
    return min(service.wait_secs, service.wait_secs if call.wait_secs is None else call.wait_secs)


def _framing(request: Request, call: Call) -> Framing | None:
    if _is_dry(call):
        return None
    if SSE in request.headers.get("accept", ""):
        return Sse()
    return Ndjson() if call.output_format == "stream-json" else None


def _is_dry(call: Call) -> bool:
    match call:
        case PromptCall() | CompareCall():
            return call.dry_run
        case ParallelCall():
            return any(task.dry_run for task in call.tasks)
        case ChainCall():
            return any(step.dry_run for step in call.steps)


def _answer(service: Service, result: Result, patience: float) -> Response:
    failure = _why_unfinished(service, result, patience)
    if failure is None or isinstance(result, Planned):
        used_tools = not isinstance(result, Planned) and service.used_tools(result)
        return answers.of_result(result, used_tools=used_tools)
    status = answers.STATUS[failure.code]
    headers = {"Location": answers.location(result.run_id), "X-Clinvk-Run": result.run_id}
    body = result.model_dump(mode="json") | {"error": asdict(failure)}
    return JSONResponse(body, status, headers=headers | answers.retry_headers(status, failure, result))


def _why_unfinished(service: Service, result: Result, patience: float) -> Failure | None:
    """Why a call ended before its run, or with it, when that was not the client's wish."""
    if isinstance(result, Planned):
        return None
    if result.status == "cancelled" and service.drain.closing.is_set():
        return result.error
    if result.status == "running" and patience >= service.wait_secs:
        return Failure(
            code="timeout",
            message=f"the call waited {service.wait_secs:g} s, which is the longest; the run goes on",
            hint=f"GET {answers.location(result.run_id)} has its state; ask with background: true for long runs",
            details={"run_id": result.run_id},
        )
    return None


class Events:
    """Satisfies `Rendering`: every event, unchanged, and the result."""

    def __init__(self, service: Service, framing: Framing, patience: float) -> None:
        self.media_type = framing.media_type
        self._service = service
        self._framing = framing
        self._patience = patience

    def is_worth_starting(self, items: Sequence[Said]) -> bool:
        return bool(items)

    def headers(self, run_id: str) -> dict[str, str]:
        return {"X-Clinvk-Run": run_id} if run_id else {}

    def begin(self) -> bytes:
        return b""

    def said(self, item: Said) -> bytes:
        return self._framing.said(item)

    def heartbeat(self) -> bytes:
        return self._framing.heartbeat()

    def end(self, result: Result) -> bytes:
        failure = _why_unfinished(self._service, result, self._patience)
        return (self._framing.failure(failure) if failure else b"") + self._framing.result(result)

    def failure(self, failure: Failure) -> bytes:
        return self._framing.failure(failure)

    def unstarted(self, scope: Scope, result: Result) -> ASGIApp | None:
        return None
