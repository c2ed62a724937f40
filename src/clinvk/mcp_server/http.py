"""Serving over streamable HTTP.

Over the SDK's own runner it adds: shutdown that cancels what runs and then exits with 0 (the SDK's never ends while a
2026 call is in flight, python-sdk #1272, #2150), 405 where the specification wants it (#3102, #3492), and the guard on
every route. Responses are SSE streams: in JSON mode progress is lost and a 2026 client that leaves cancels nothing.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http import EventStore
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.config.cascade import Loaded
from clinvk.mcp_server.application import server_of
from clinvk.mcp_server.calls import Calls, Presence
from clinvk.web import guard, listener
from clinvk.web import health as health_of
from clinvk.web.guard import OWNER
from clinvk.web.health import Endpoint
from clinvk.web.keys import Keyring


class NoSession:
    """ASGI: answers 405 to GET and DELETE without a session, which the SDK would open a stream for.

    It tells the SDK whose key a request carries; the SDK then lets a session be used only with the key that opened it.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._needs_session(scope) and all(name != b"mcp-session-id" for name, _ in scope["headers"]):
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Method not allowed"}}
            return await JSONResponse(error, 405, headers={"Allow": "POST"})(scope, receive, send)
        own = dict(scope)  # the SDK's router writes its own route into it, which is not that of whoever mounted this
        if OWNER in scope:
            own["user"] = AuthenticatedUser(AccessToken(token="", client_id=scope[OWNER], scopes=[]))
        return await self._app(own, receive, send)

    def _needs_session(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["path"] == self._path and scope["method"] in ("GET", "DELETE")


@dataclass(frozen=True, slots=True)
class Resumption:
    """Lets 2025 clients resume a broken stream; clinvk's own answer to that is the run's id, which works everywhere."""

    store: EventStore
    retry_ms: int


def application(
    server: MCPServer[Any],
    loaded: Loaded,
    keyring: Keyring,
    health: Endpoint | None,
    calls: Calls,
    resumption: Resumption | None = None,
) -> ASGIApp:
    """The ASGI application: the MCP endpoint, and /health if asked for, behind the guards."""
    config = loaded.config
    app: Starlette = server.streamable_http_app(
        streamable_http_path=config.mcp.http_path,
        max_request_body_size=config.server.max_request_body_bytes,
        event_store=resumption.store if resumption else None,
        retry_interval=resumption.retry_ms if resumption else None,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does it
    )
    public: list[str] = []
    if health is not None:
        app.router.routes.append(Route(health_of.PATH, health, methods=["GET"]))
        public.append(health_of.PATH)
    endpoint = Presence(NoSession(app, config.mcp.http_path), calls)
    inner = guard.KeyGuard(endpoint, keyring, public=public)
    return guard.HostGuard(inner, config.mcp.host, origins=config.server.cors_allowed_origins)


async def run(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve clinvk to HTTP clients until a signal comes.

    Raises:
        ClinvkError: if others could reach the server and it has no keys (policy_denied).
        ConfigError: if it cannot listen as configured.
    """
    settings = loaded.config.mcp
    keyring = Keyring(loaded.home, environ)
    guard.check_exposure(settings.host, keyring, loaded.config.server.cors_allowed_origins)
    if settings.expose_health and settings.http_path == health_of.PATH:
        message = f"{health_of.PATH} is the path of the health report; choose another"
        raise listener.problem(loaded, "mcp.http_path", message)
    with listener.bound(loaded, "mcp") as listening:
        async with server_of(loaded, environ) as (server, operations):
            health = health_of.endpoint(operations.app, keyring) if settings.expose_health else None
            await serve(server, loaded, listening, keyring, health)


async def serve(
    server: MCPServer[Any],
    loaded: Loaded,
    listening: socket.socket,
    keyring: Keyring,
    health: Endpoint | None = None,
    resumption: Resumption | None = None,
) -> None:
    """Serve until a signal comes."""
    calls = Calls()
    server.middleware.append(calls)
    app = application(server, loaded, keyring, health, calls, resumption)
    url = listener.url_of(loaded.config.mcp.host, listening, loaded.config.mcp.http_path)
    await listener.serve(listener.configured(app, "h11"), listening, url, calls.close)
