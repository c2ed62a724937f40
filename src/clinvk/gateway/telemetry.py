"""The outermost layer: every request gets an id, a log line, its place in the metrics and the audit log.

It is also the boundary of this edge: a bug met by one request is logged with its traceback, answered with 500, and ends
nothing else.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinvk.errors import Failure
from clinvk.gateway import answers
from clinvk.gateway.service import ANONYMOUS, Trail, trail_of
from clinvk.gateway.tracing import TemplateOf
from clinvk.web.connection import Refusal
from clinvk.web.guard import OWNER
from clinvk.web.headers import SECURITY_HEADERS

REQUEST_ID = "clinvk.request_id"
ID_HEADERS = ("X-Request-Id", "Request-Id")  # the other is where Anthropic's SDK looks for it
NO_METHOD, NO_ROUTE = "-", "none"
CLIENT_LEFT = 499  # nginx's number; nobody sees it but logs and metrics

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_log = logging.getLogger("clinvk.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that was answered, or whose client left."""

    request_id: str
    method: str
    route: str
    status: int
    seconds: float
    who: str
    trail: Trail
    scope: Scope


Watcher = Callable[[Seen], None]


class Telemetry:
    """ASGI; `watchers` are told of every request once it is over."""

    def __init__(self, app: ASGIApp, template_of: TemplateOf, watchers: Sequence[Watcher]) -> None:
        self._app = app
        self._template_of = template_of
        self._watchers = watchers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # The specification wants white space around values gone; httptools leaves it at the end.
        scope["headers"] = [(name, value.strip()) for name, value in scope["headers"]]
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else _new_id()
        scope[REQUEST_ID] = request_id
        status = CLIENT_LEFT
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(raw=message["headers"]), request_id)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - this edge's boundary
            _log.exception(
                "%s %s failed unexpectedly", scope["method"], scope["path"], extra={"request_id": request_id}
            )
            if status == CLIENT_LEFT:
                await answers.of_failure(scope, bug(error))(scope, receive, sending)
        finally:
            self._tell(scope, request_id, status, time.perf_counter() - began)

    def refused(self, refusal: Refusal) -> Mapping[str, str]:
        """Take note of a connection of which no request came; the headers that tell of it."""
        request_id = _new_id()
        scope: Scope = {"type": "http", "method": NO_METHOD, "client": refusal.client, "headers": []}
        trail_of(scope).failed(refusal.failure)
        self._tell(scope, request_id, refusal.status, refusal.seconds)
        return dict.fromkeys(ID_HEADERS, request_id)

    def _tell(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        seen = Seen(
            request_id=request_id,
            method=scope["method"],
            route=self._template_of(scope) or NO_ROUTE,
            status=status,
            seconds=seconds,
            who=scope.get(OWNER) or ANONYMOUS,
            trail=trail_of(scope),
            scope=scope,
        )
        for watcher in self._watchers:
            watcher(seen)


def _new_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def _add_headers(headers: MutableHeaders, request_id: str) -> None:
    headers.update(dict.fromkeys(ID_HEADERS, request_id))
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def bug(error: Exception) -> Failure:
    """What is told of an error that is clinvk's own fault."""
    return Failure(
        code="internal",
        message=f"{type(error).__name__} in clinvk itself",
        hint="the server's standard error output has the details; please report them",
    )


def log(seen: Seen) -> None:
    """One line per request."""
    trail = seen.trail
    _log.info(
        "%s %s %d",
        seen.method,
        seen.route,
        seen.status,
        extra={
            "request_id": seen.request_id,
            "run_id": trail.run_id,
            "who": seen.who,
            "duration_ms": round(seen.seconds * 1000, 1),
            "outcome": trail.outcome,
            "error_code": trail.error_code,
        },
    )
