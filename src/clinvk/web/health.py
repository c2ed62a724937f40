"""`/health`: whether this server can do its work, and why not; it tells nothing that a stranger may not know."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinvk import __version__
from clinvk.backends import registry
from clinvk.errors import ClinvkError
from clinvk.tools.app import App
from clinvk.web.keys import Keyring

PATH = "/health"

Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(app: App, keyring: Keyring) -> Endpoint:
    """The route's handler; uptime counts from now."""
    began = time.monotonic()

    async def health(_request: Request) -> Response:
        why_nobody = keyring.why_nobody()  # not in the thread: the guard reads the same keys again here
        report = await anyio.to_thread.run_sync(_report, app, why_nobody)
        report["uptime_ms"] = round((time.monotonic() - began) * 1000)
        return JSONResponse(report, 503 if report["status"] == "unhealthy" else 200)

    return health


def _report(app: App, why_nobody: str | None) -> dict[str, Any]:
    store = _session_store(app)
    available = app.available()
    status, reason = _status(app, store, available)
    if why_nobody is not None:
        status, reason = "unhealthy", f"{why_nobody}, so that nobody is let in"
    return {
        "status": status,
        "reason": reason,
        "version": __version__,
        "backends": [
            {"name": name, "available": name in available} for name in registry.BACKENDS if name != registry.BUILT_IN
        ],
        "session_store": store,
    }


def _status(app: App, store: dict[str, Any], agents: list[str]) -> tuple[str, str | None]:
    if store["status"] != "ok":
        return "unhealthy", f"the session store cannot be read and written: {store['code']}"
    if app.executor.closing:
        return "unhealthy", "the server is shutting down"
    if not agents:
        return "degraded", "no agent CLI is installed and enabled"
    waiting = app.executor.admission.waiting
    if waiting >= app.config.limits.queue_length:
        return "degraded", f"the queue is full: {waiting} runs wait for their turn"
    return "ok", None


def _session_store(app: App) -> dict[str, Any]:
    try:
        return {"status": "ok", "sessions": app.sessions.count()}
    except ClinvkError as error:
        return {"status": "error", "code": error.failure.code}
    except OSError as error:
        return {"status": "error", "code": error.strerror or "I/O error"}
