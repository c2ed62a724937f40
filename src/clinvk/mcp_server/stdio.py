"""Serving over stdio.

Over the SDK's own stdio transport it adds: shutdown that lets handlers clean up (the SDK's dies of SIGTERM at once
and hangs on SIGINT, python-sdk #3551), no thread per message, an answer to a message that is too long, and clients
that probe with `server/discover` and then `initialize` on the same pipe (copilot-cli #4525, claude-code #96183).
"""

import json
import logging
from dataclasses import asdict
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared._context_streams import create_context_streams
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from clinvk.errors import ClinvkError
from clinvk.mcp_server import wire
from clinvk.mcp_server.wire import Overlong, Wire

_log = logging.getLogger(__name__)
_PROBE_ANSWER_SECS = 2.0  # the answer to a probe is on its way; a client that does not read it must not hang us


async def serve(server: Server[Any]) -> None:
    """Serve one client until it closes its end, or until cancelled."""
    if not wire.pollable():
        async with stdio_server() as (reading, writing):
            return await server.run(reading, writing, server.create_initialization_options())
    with wire.opened() as opened:
        async with server.lifespan(server) as state, anyio.create_task_group() as group:
            client = _Client(server, state, opened, group)
            await client.serve()
            group.cancel_scope.cancel()
    return None


class _Leg:
    """One protocol loop, which serves the era that its first request opens."""

    def __init__(self, client: "_Client") -> None:
        self._client = client
        self.requests, self._incoming = create_context_streams[SessionMessage | Exception](0)
        self._outgoing, self._answers = create_context_streams[SessionMessage](0)
        self._closed = anyio.Event()
        self._probes: set[RequestId] = set()
        self._probed = anyio.Event()
        client.group.start_soon(self._run)
        client.group.start_soon(self._write)

    async def _run(self) -> None:
        server = self._client.server
        await serve_dual_era_loop(
            server,
            self._incoming,
            self._outgoing,
            lifespan_state=self._client.state,
            init_options=server.create_initialization_options(),
        )

    async def _write(self) -> None:
        async with self._answers:
            async for answer in self._answers:
                await self._client.write(answer.message.model_dump_json(by_alias=True, exclude_unset=True))
                self._told(answer.message)
        self._closed.set()

    def _told(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id in self._probes:
            self._probes.discard(message.id)
            self._probed.set()

    def probed_by(self, request: RequestId) -> None:
        """A `server/discover` was passed on."""
        self._probes.add(request)

    async def answered(self) -> None:
        """Wait until every probe has its answer, for a bounded time."""
        with anyio.move_on_after(_PROBE_ANSWER_SECS):
            while self._probes:
                await self._probed.wait()
                self._probed = anyio.Event()

    async def close(self) -> None:
        """End the loop: what it still runs is cancelled."""
        await self.requests.aclose()
        await self._closed.wait()


class _Client:
    """The one client at the other end of the wire."""

    def __init__(self, server: Server[Any], state: Any, wire: Wire, group: TaskGroup) -> None:
        self.server = server
        self.state = state
        self.group = group
        self._wire = wire
        self._leg = _Leg(self)
        self._probing = True

    async def serve(self) -> None:
        try:
            async for line in self._wire.lines():
                await self._take(line)
        finally:
            self._leg.requests.close()
        await self._leg.close()

    async def write(self, line: str) -> None:
        """Write one message; end the serving when nobody reads it."""
        try:
            await self._wire.write(line.encode("utf-8") + b"\n")
        except OSError:
            self.group.cancel_scope.cancel()

    async def _take(self, line: bytes | Overlong) -> None:
        if isinstance(line, Overlong):
            return await self._refuse(line)
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValidationError as error:
            return await self._reject(line, error)
        if self._probing and isinstance(message, JSONRPCRequest):
            await self._choose_era(message)
        return await self._leg.requests.send(SessionMessage(message))

    async def _reject(self, line: bytes, error: ValidationError) -> None:
        """Answer a request that cannot be read, so that nobody waits for it; skip what is no request.

        An array of messages, as 2025-03-26 has them, is read one by one; every request gets an answer of its own.
        """
        batch = _batch(line)
        if batch:
            for each in batch:
                await self._take(each)
            return None
        request_id = _unanswered(line)
        if request_id is None:
            _log.warning("a line that is not a JSON-RPC message was skipped")
            return await self._leg.requests.send(error)
        _log.warning("a request that cannot be read was refused")
        failure = ClinvkError(
            "invalid_request",
            "the request is not valid JSON-RPC in UTF-8",
            hint="send valid Unicode text without lone surrogates; a file with other bytes can be named in the prompt",
        ).failure
        refusal = {"code": INVALID_REQUEST, "message": failure.message, "data": {"error": asdict(failure)}}
        return await self.write(json.dumps({"jsonrpc": "2.0", "id": request_id, "error": refusal}))

    async def _choose_era(self, request: JSONRPCRequest) -> None:
        """Start over for a client that probed for the newer era and then chose the handshake."""
        if request.method == "initialize":
            await self._leg.answered()
            await self._leg.close()
            self._leg = _Leg(self)
        self._probing = request.method == "server/discover"
        if self._probing:
            self._leg.probed_by(request.id)

    async def _refuse(self, line: Overlong) -> None:
        most = wire.MAX_LINE_BYTES // (1024 * 1024)
        _log.warning("a message of more than %d MiB was dropped", most)
        error = json.dumps({"code": INVALID_REQUEST, "message": f"message larger than {most} MiB"})
        await self.write(f'{{"jsonrpc":"2.0","id":{line.request_id},"error":{error}}}')


def _batch(line: bytes) -> list[bytes]:
    """The messages of an array; none of what is no array."""
    if not line.startswith(b"["):
        return []
    try:
        messages: list[Any] = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [json.dumps(message).encode() for message in messages if isinstance(message, dict)]


def _unanswered(line: bytes) -> RequestId | None:
    """The id of a request, read with damaged characters replaced; None where there is no request to answer."""
    try:
        message: Any = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):  # cut short, or nested too deeply: what stands at its ends must do
        message = {"id": json.loads(wire.request_id([line]))} | ({"method": ""} if b'"method"' in line else {})
    if not isinstance(message, dict) or "method" not in message:
        return None
    request_id: Any = message.get("id")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
