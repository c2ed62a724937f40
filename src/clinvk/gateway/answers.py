"""From results and failures to HTTP: status codes, headers, and the error in the shape of the API that was called."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from clinvk.errors import ErrorCode, Failure
from clinvk.gateway.calls import Planned, Result, RunResult
from clinvk.gateway.service import parts, trail_of
from clinvk.response import PromptResult

# What the SDKs may repeat of their own accord. A run that timed out may succeed the next time, but has cost its time
# and tokens: that is for a person to decide.
UNSPENT: frozenset[ErrorCode] = frozenset({"rate_limited", "overloaded", "session_busy"})
RETRY_SECS = 30  # Retry-After where nobody knows better
OPENAI, ANTHROPIC = "/openai/", "/anthropic/"

REQUESTS = {"runs(action='list')": "GET /api/v1/runs", "sessions(action='list')": "GET /api/v1/sessions"}

STATUS: Mapping[ErrorCode, int] = {
    "invalid_request": 422,
    "unsupported_option": 422,
    "workdir_denied": 403,
    "policy_denied": 403,
    "permission_blocked": 403,
    "recursion_limit": 403,
    "budget_exceeded": 403,
    "backend_unknown": 404,
    "model_unknown": 404,
    "session_not_found": 404,
    "session_lost": 404,
    "run_not_found": 404,
    "session_busy": 409,
    "cancelled": 409,
    "rate_limited": 429,
    "quota_exhausted": 429,
    "overloaded": 429,
    "backend_error": 502,
    "backend_changed": 502,
    "output_unreadable": 502,
    "backend_unavailable": 503,
    "auth_required": 503,
    "interrupted": 503,
    "timeout": 504,
    "stalled": 504,
    "spawn_failed": 500,
    "internal": 500,
}

# What the APIs call an error, by HTTP status; any other is the client's (invalid_request_error) or the server's.
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "api_error",  # there is no type for a conflict
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def of_result(result: Result, *, used_tools: bool = False) -> Response:
    """A result with its status; a single prompt that failed has that of its error, partial output and all."""
    status = 200
    extra: dict[str, str] = {}
    if not isinstance(result, Planned):
        if result.run_id:
            extra |= {"X-Clinvk-Run": result.run_id}
        if result.status == "running":
            status = 202
            extra |= {"Location": location(result.run_id), "Preference-Applied": "respond-async"}
        elif isinstance(result, PromptResult) and result.error is not None:
            status = STATUS[result.error.code]
            extra |= retry_headers(status, result.error, result, used_tools=used_tools)
    return Response(result.model_dump_json(), status, media_type="application/json", headers=extra)


def location(run_id: str) -> str:
    """Where a run is to be found."""
    return f"/api/v1/runs/{run_id}"


def of_failure(
    scope: Scope, failure: Failure, status: int | None = None, *, result: PromptResult | None = None
) -> Response:
    """A failure, that of `result` if given, in the shape of the API that the request's path belongs to."""
    trail = trail_of(scope)
    if not trail.error_code:  # the guards know no trail; a run that failed has left its own words there
        trail.failed(failure)
    path: str = scope["path"]
    status = status or STATUS[failure.code]
    failure = in_words_of_http(failure)
    body: Mapping[str, Any] = {"error": asdict(failure)}
    if path.startswith(OPENAI):
        status = openai_status(status)
        body = openai_error(status, failure)
    elif path.startswith(ANTHROPIC):
        status = anthropic_status(status, failure)
        body = anthropic_error(status, failure, scope.get("clinvk.request_id", ""))
    headers = {"X-Clinvk-Run": trail.run_id} if trail.run_id else {}
    told = retry_headers(status, failure, result, used_tools=trail.used_tools)
    return JSONResponse(body, status, headers=headers | told)


def in_words_of_http(failure: Failure) -> Failure:
    """The same with the request instead of a tool of MCP that its hint names."""
    hint = failure.hint or ""
    for tool, request in REQUESTS.items():
        hint = hint.replace(tool, request)
    return replace(failure, hint=hint or None)


def refused(scope: Scope, status: int, failure: Failure) -> Response:
    """The same for the guards, which choose the status."""
    return of_failure(scope, failure, status)


def retry_headers(
    status: int, failure: Failure, result: RunResult | None = None, *, used_tools: bool = False
) -> dict[str, str]:
    """Whether and when to try again. The SDKs would repeat 409, 429 and 5xx, whatever they cost, if not told."""
    has_cost = used_tools or (result is not None and _has_cost(result))
    may_repeat = failure.retryable and failure.code in UNSPENT and not has_cost
    headers = {"X-Should-Retry": "true" if may_repeat else "false"}
    if status in (429, 529) or (status == 503 and failure.retryable):
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after_secs or RETRY_SECS)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _has_cost(result: RunResult) -> bool:
    """Whether an agent has got somewhere before it failed: it may also have changed files.

    Output tells where nobody knows of tokens; elsewhere it may be the CLI's own words about the failure.
    """
    known = [(part.token_usage.output_tokens, part.output) for part in parts(result)]
    return any(bool(output) if tokens is None else tokens > 0 for tokens, output in known)


def openai_status(status: int) -> int:
    """The status that OpenAI's API uses for the same."""
    return 400 if status == 422 else status


def anthropic_status(status: int, failure: Failure) -> int:
    """The status that Anthropic's API uses for the same."""
    if failure.code == "overloaded":
        return 529
    return 400 if status == 422 else status


def openai_error(status: int, failure: Failure) -> dict[str, Any]:
    """OpenAI's error object."""
    code = "model_not_found" if failure.code in ("model_unknown", "backend_unknown") else failure.code
    wrong: list[str | None] = failure.details.get("fields") or [None]  # what does not fit the model
    return {
        "error": {
            "message": _said(failure),
            "type": _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": failure.details.get("field", wrong[0] or None),
            "code": "invalid_api_key" if status == 401 else code,
        }
    }


def anthropic_error(status: int, failure: Failure, request_id: str) -> dict[str, Any]:
    """Anthropic's error object."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": _said(failure)}, "request_id": request_id}


def _said(failure: Failure) -> str:
    return f"{failure.message} ({failure.hint})" if failure.hint else failure.message
