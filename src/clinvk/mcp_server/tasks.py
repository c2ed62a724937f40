"""The extension `io.modelcontextprotocol/tasks` (SEP-2663): call now, fetch later.

It knows the wire and the rules; which tools make tasks, and where those are kept, is the backing's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    InputRequest,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from clinvk.errors import ClinvkError

IDENTIFIER = "io.modelcontextprotocol/tasks"

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]
Support = Literal["none", "optional", "required"]
RequestContext = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as it is now; times are seconds since the epoch.

    A tool that reports an error has completed, with that as its result; `error` is for a call that broke.
    """

    task_id: str
    status: Status
    created_at: float
    updated_at: float
    ttl_ms: int | None
    poll_ms: int
    message: str | None = None
    requests: Mapping[str, InputRequest] = field(default_factory=dict[str, InputRequest])
    result: CallToolResult | None = None
    error: ErrorData | None = None


class Backing(Protocol):
    """Where tasks are kept."""

    def support(self, tool: str) -> Support:
        """Whether calls of a tool become tasks."""
        ...

    async def begin(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> Task | HandlerResult:
        """A task for the call, which `get` finds from now on; or the call's result, when it is there already."""
        ...

    async def get(self, task_id: str) -> Task | None:
        """A task as it is now."""
        ...

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> bool:
        """Take answers to its requests, ignoring those to none; False when there is no such task.

        Raises ValueError when an answer has the wrong shape, ClinvkError when it could not be delivered.
        """
        ...

    async def cancel(self, task_id: str) -> bool:
        """Have a task stopped, if it has not ended; False when there is no such task."""
        ...


class TaskParams(RequestParams):
    """Params of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """Params of `tasks/update`."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class Tasks(Extension):
    """Turns calls into tasks for clients that negotiated the extension; it exists on 2026-07-28 only."""

    identifier = IDENTIFIER

    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def methods(self) -> Sequence[MethodBinding]:
        """`tasks/get`, `tasks/update`, `tasks/cancel`."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        """Begin a task, where the tool and the client are up to it. Raises MCPError when only the client is not."""
        support = self._backing.support(params.name)
        if support == "required":
            require_client_extension(ctx, IDENTIFIER)
        if support == "none" or not _negotiated(ctx):
            return await call_next(ctx)
        begun = await self._backing.begin(params, ctx, call_next)
        return {"resultType": "task", **_base(begun)} if isinstance(begun, Task) else begun

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        _check(ctx, params)
        task = await self._backing.get(params.task_id)
        if task is None:
            raise _unknown(params)
        return {"resultType": "complete", **_detailed(task)}

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        _check(ctx, params)
        try:
            found = await self._backing.answer(params.task_id, params.input_responses)
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, f"inputResponses: {error}") from error
        except ClinvkError as error:
            code = INVALID_PARAMS if error.failure.code == "invalid_request" else INTERNAL_ERROR
            raise MCPError(code, f"inputResponses: {error}") from error
        return _acknowledged(params, found)

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        _check(ctx, params)
        return _acknowledged(params, await self._backing.cancel(params.task_id))


def _negotiated(ctx: RequestContext) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and IDENTIFIER in (declared or {})


def _check(ctx: RequestContext, params: TaskParams) -> None:
    """Raises MCPError when the client did not negotiate tasks, or routes a request to another one (SEP-2243)."""
    require_client_extension(ctx, IDENTIFIER)
    headers: Mapping[str, str] | None = getattr(ctx.request, "headers", None)
    if headers is None:
        return
    name = decode_header_value(headers.get(MCP_NAME_HEADER))
    if name is None or name.strip() != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"header Mcp-Name must be the taskId {params.task_id!r}, and is {name!r}")


def _unknown(params: TaskParams) -> MCPError:
    return MCPError(INVALID_PARAMS, f"no task {params.task_id!r}")


def _acknowledged(params: TaskParams, found: bool) -> HandlerResult:
    if not found:
        raise _unknown(params)
    return {"resultType": "complete"}


def _base(task: Task) -> dict[str, Any]:
    base: dict[str, Any] = {
        "taskId": task.task_id,
        "status": task.status,
        "createdAt": _timestamp(task.created_at),
        "lastUpdatedAt": _timestamp(task.updated_at),
        "ttlMs": task.ttl_ms,
        "pollIntervalMs": task.poll_ms,
    }
    return base | ({"statusMessage": task.message} if task.message else {})


def _detailed(task: Task) -> dict[str, Any]:
    match task.status:
        case "input_required":
            more = {"inputRequests": {name: _wire(request) for name, request in task.requests.items()}}
        case "completed":
            assert task.result is not None
            more = {"result": _wire(task.result)}
        case "failed":
            assert task.error is not None
            more = {"error": _wire(task.error)}
        case "working" | "cancelled":
            more = {}
    return {**_base(task), **more}


def _wire(value: InputRequest | CallToolResult | ErrorData) -> dict[str, Any]:
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
