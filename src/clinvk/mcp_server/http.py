"""Serving over streamable HTTP.

Over the SDK's own runner it adds: shutdown that cancels what runs and then exits with 0 (the SDK's never ends while a
2026 call is in flight, python-sdk #1272, #2150), 405 where the specification wants it (#3102, #3492), and the guard on
every route. Responses are SSE streams: in JSON mode progress is lost and a 2026 client that leaves cancels nothing.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import anyio
import uvicorn
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.config.cascade import Loaded
from clinvk.config.problems import ConfigError, Problem
from clinvk.mcp_server import guard
from clinvk.mcp_server import health as health_of
from clinvk.mcp_server.application import server_of
from clinvk.mcp_server.health import Endpoint

SHUTDOWN_SECS = 10  # handlers were cancelled already; what is left is stopping processes and sending the last answers
_SHUTTING_DOWN = -32000


class Drain:
    """MCP middleware that knows the calls in flight, so that shutdown can cancel them."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._closing = False

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        if not self._closing:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await call_next(ctx)
                finally:
                    self._scopes.discard(scope)
        raise MCPError(_SHUTTING_DOWN, "server is shutting down")

    def close(self) -> None:
        """Cancel every call and refuse new ones."""
        self._closing = True
        for scope in tuple(self._scopes):
            scope.cancel()


class NoSession:
    """ASGI: answers 405 to GET and DELETE without a session, which the SDK would open a stream for."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._needs_session(scope) and all(name != b"mcp-session-id" for name, _ in scope["headers"]):
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Method not allowed"}}
            return await JSONResponse(error, 405, headers={"Allow": "POST"})(scope, receive, send)
        return await self._app(scope, receive, send)

    def _needs_session(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["path"] == self._path and scope["method"] in ("GET", "DELETE")


class Listener(uvicorn.Server):
    """uvicorn, but a signal cancels the calls in flight, and the process exits with 0 afterwards."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; on the second signal at once."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        asyncio.get_running_loop().call_soon_threadsafe(self._drain.close)  # a signal handler may not call anyio


def application(server: MCPServer[Any], loaded: Loaded, keys: Sequence[str], health: Endpoint | None) -> ASGIApp:
    """The ASGI application: the MCP endpoint, and /health if asked for, behind the guard."""
    config = loaded.config
    app: Starlette = server.streamable_http_app(
        streamable_http_path=config.mcp.http_path,
        max_request_body_size=config.server.max_request_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does it
    )
    public: list[str] = []
    if health is not None:
        app.router.routes.append(Route(health_of.PATH, health, methods=["GET"]))
        public.append(health_of.PATH)
    inner = NoSession(app, config.mcp.http_path)
    return guard.Guard(inner, config.mcp.host, keys=keys, origins=config.server.cors_allowed_origins, public=public)


async def run(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve clinvk to HTTP clients until a signal comes.

    Raises:
        ClinvkError: if others could reach the server and it has no keys (policy_denied).
        ConfigError: if it cannot listen as configured.
    """
    settings = loaded.config.mcp
    keys = guard.api_keys(environ)
    guard.check_exposure(settings.host, keys)
    if settings.expose_health and settings.http_path == health_of.PATH:
        raise _problem(loaded, "mcp.http_path", f"{health_of.PATH} is the path of the health report; choose another")
    with bound(loaded) as listening:
        async with server_of(loaded, environ) as (server, operations):
            health = health_of.endpoint(operations.app) if settings.expose_health else None
            await serve(server, loaded, listening, keys, health)


def _problem(loaded: Loaded, key: str, message: str) -> ConfigError:
    return ConfigError([Problem(message=message, source=loaded.sources[key], key=key)])


def bound(loaded: Loaded) -> socket.socket:
    """The socket to listen on. Raises ConfigError when the configured address cannot be had."""
    settings = loaded.config.mcp
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        key = "mcp.port" if in_use or error.errno == errno.EACCES else "mcp.host"
        what = "is in use; choose another port, or 0 for a free one" if in_use else f"cannot be had: {error.strerror}"
        raise _problem(loaded, key, f"{settings.host} port {settings.port} {what}") from error
    return listening


async def serve(
    server: MCPServer[Any], loaded: Loaded, listening: socket.socket, keys: Sequence[str], health: Endpoint | None
) -> None:
    """Serve until a signal comes. Says on standard error where, because port 0 takes a free one."""
    drain = Drain()
    server.middleware.append(drain)
    config = uvicorn.Config(
        application(server, loaded, keys, health),
        lifespan="on",
        ws="none",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECS,
    )
    listener = Listener(config, drain)
    signal.signal(signal.SIGHUP, listener.handle_exit)
    sys.stderr.write(f"clinvk: listening on {_url(loaded, listening)}\n")
    sys.stderr.flush()
    await listener.serve(sockets=[listening])


def _url(loaded: Loaded, listening: socket.socket) -> str:
    host = loaded.config.mcp.host
    port = listening.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{loaded.config.mcp.http_path}"
