"""The calls in flight over HTTP: cancelled when the server stops, and when their client has left."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.types import ASGIApp, Receive, Scope, Send

ABSENT_SECS = 5.0  # a client without any connection for so long has left; clients connect again within a second or two
LOOK_SECS = 0.1
_SESSION = b"mcp-session-id"
_STOPPED = -32000


class Calls:
    """MCP middleware that knows the calls in flight."""

    def __init__(self) -> None:
        self._scopes: dict[anyio.CancelScope, bytes | None] = {}
        self._closing = False

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        if not self._closing:
            with anyio.CancelScope() as scope:
                self._scopes[scope] = _session(getattr(ctx.request, "scope", {}))
                try:
                    return await call_next(ctx)
                finally:
                    del self._scopes[scope]
        raise MCPError(_STOPPED, "server is shutting down" if self._closing else "stopped: its client had left")

    def close(self) -> None:
        """Cancel every call and refuse new ones."""
        self._closing = True
        for scope in tuple(self._scopes):
            scope.cancel()

    def of(self, session: bytes) -> list[anyio.CancelScope]:
        """The calls of one MCP session that go on."""
        return [scope for scope, whose in self._scopes.items() if whose == session]


class Presence:
    """ASGI: notices that the client of an MCP session has left, which ends its calls.

    Only the revisions up to 2025-11-25 have sessions. They do not let a server take one lost connection for that: a
    client may come back, or have others. One that has none for `ABSENT_SECS`, while a call waits for it, is gone. With
    a client of a later revision each request ends by itself when its connection does.
    """

    def __init__(self, app: ASGIApp, calls: Calls) -> None:
        self._app = app
        self._calls = calls
        self._connections = Counter[bytes]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _session(scope) if scope["type"] == "http" else None
        if session is None:
            await self._app(scope, receive, send)
            return
        self._connections[session] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections[session] -= 1
            if self._connections[session] == 0:
                del self._connections[session]
        await self._miss(session)

    async def _miss(self, session: bytes) -> None:
        """Give a client that has no connection left the time to come back, while calls wait for it."""
        with anyio.move_on_after(ABSENT_SECS) as absent:
            while self._is_missed(session):  # noqa: ASYNC110 - looked at only where a connection was lost
                await anyio.sleep(LOOK_SECS)
        if absent.cancelled_caught:
            for call in self._calls.of(session):
                call.cancel()

    def _is_missed(self, session: bytes) -> bool:
        return session not in self._connections and bool(self._calls.of(session))


def _session(scope: Mapping[str, Any]) -> bytes | None:
    return next((value for name, value in scope.get("headers", ()) if name == _SESSION), None)
