"""The MCP endpoint for another door's application; that one guards it, listens, and stops it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp.server.transport_security import TransportSecuritySettings

from clinvk.mcp_server.application import server_over
from clinvk.mcp_server.calls import Calls, Presence
from clinvk.mcp_server.http import NoSession
from clinvk.tools.app import App
from clinvk.web.mounting import Mounted


@asynccontextmanager
async def mounted(app: App) -> AsyncGenerator[Mounted]:
    """The tools over clinvk as it is open already, at mcp.http_path. Satisfies `Mounting`."""
    config = app.config
    server, _ = server_over(app)
    calls = Calls()
    server.middleware.append(calls)
    endpoint = server.streamable_http_app(
        streamable_http_path=config.mcp.http_path,
        max_request_body_size=config.server.max_request_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does it
    )
    async with server.session_manager.run():
        path = config.mcp.http_path
        yield Mounted(path, Presence(NoSession(endpoint, path), calls), calls.close)
