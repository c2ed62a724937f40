"""The tools that the conformance suite wants as tasks, kept in memory; all others are left to the product's backing."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)

from clinvk.mcp_server.tasks import Backing, RequestContext, Status, Support, Task

TTL_MS = 600_000
POLL_MS = 100
SUPPORT: Mapping[str, Support] = {
    "slow_compute": "optional",
    "failing_job": "required",
    "protocol_error_job": "optional",
    "confirm_delete": "optional",
    "multi_input": "optional",
    "test_tool_with_task": "required",
}
Ctx = Context[Any, Any]


class Job:
    """One call that goes on in the background."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self.created_at = self.updated_at = time.time()
        self.status: Status = "working"
        self.scope = anyio.CancelScope()
        self.result: CallToolResult | None = None
        self.error: MCPError | None = None
        self.requests: dict[str, ElicitRequest] = {}
        self.answers: dict[str, ElicitResult] = {}
        self.arrived = anyio.Event()

    def turn(self, status: Status) -> None:
        """Take another status, unless an end was reached."""
        if self.status in ("working", "input_required"):
            self.status, self.updated_at = status, time.time()

    async def ask(self, **messages: str) -> Mapping[str, ElicitResult]:
        """Ask for a confirmation under each name; waits until all have come."""
        self.requests = {name: confirmation(message) for name, message in messages.items()}
        self.turn("input_required")
        while self.requests:
            await self.arrived.wait()
            self.arrived = anyio.Event()
        self.turn("working")
        return self.answers

    async def run(self, work: Callable[[], Awaitable[HandlerResult]]) -> None:
        """Do the work and keep what came of it."""
        with self.scope:
            try:
                self.result = cast("CallToolResult", await work())
                self.turn("completed")
            except MCPError as error:
                self.error = error
                self.turn("failed")
        if self.scope.cancelled_caught:
            self.turn("cancelled")


_JOB: ContextVar[Job | None] = ContextVar("_JOB", default=None)


class FixtureTasks:
    """Satisfies `Backing`."""

    def __init__(self, inner: Backing, group: TaskGroup) -> None:
        self._inner = inner
        self._group = group
        self._jobs: dict[str, Job] = {}

    def support(self, tool: str) -> Support:
        return SUPPORT.get(tool) or self._inner.support(tool)

    async def begin(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> Task | HandlerResult:
        if params.name not in SUPPORT:
            return await self._inner.begin(params, ctx, call_next)
        if params.name == "test_tool_with_task" and not params.input_responses:
            return await call_next(ctx)
        job = Job()
        self._jobs[job.id] = job

        async def work() -> HandlerResult:
            _JOB.set(job)
            return await call_next(ctx)

        self._group.start_soon(job.run, work)
        return self._task(job)

    async def get(self, task_id: str) -> Task | None:
        job = self._jobs.get(task_id)
        return self._task(job) if job is not None else await self._inner.get(task_id)

    def _task(self, job: Job) -> Task:
        return Task(
            task_id=job.id,
            status=job.status,
            created_at=job.created_at,
            updated_at=job.updated_at,
            ttl_ms=TTL_MS,
            poll_ms=POLL_MS,
            requests={**job.requests},
            result=job.result,
            error=job.error.error if job.error is not None else None,
        )

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> bool:
        job = self._jobs.get(task_id)
        if job is None:
            return await self._inner.answer(task_id, responses)
        for name in set(responses) & set(job.requests):
            job.answers[name] = ElicitResult.model_validate(responses[name])
            del job.requests[name]
        job.arrived.set()
        return True

    async def cancel(self, task_id: str) -> bool:
        job = self._jobs.get(task_id)
        if job is None:
            return await self._inner.cancel(task_id)
        job.scope.cancel()
        return True


def confirmation(message: str, field: str = "confirm", kind: str = "boolean") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def text(words: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=words)])


async def confirmed(**messages: str) -> bool:
    """Whether everything was confirmed; nothing is where there is no task to ask through."""
    job = _JOB.get()
    answers = await job.ask(**messages) if job is not None else dict[str, ElicitResult]()
    return all(name in answers and answers[name].action == "accept" for name in messages)


def add(server: MCPServer[Any]) -> None:
    """Register the tools."""

    @server.tool()
    async def greet(name: str) -> CallToolResult:
        """Greets."""
        return text(f"Hello, {name}!")

    @server.tool()
    async def slow_compute(seconds: float, label: str = "") -> CallToolResult:
        """Takes its time."""
        await anyio.sleep(seconds)
        return text(f"computed {label}")

    @server.tool()
    async def failing_job() -> CallToolResult:
        """Fails after a while."""
        await anyio.sleep(1)
        raise ToolError("it failed, as it should")

    @server.tool()
    async def protocol_error_job() -> CallToolResult:
        """Breaks."""
        raise MCPError(INTERNAL_ERROR, "it broke, as it should")

    @server.tool()
    async def confirm_delete(filename: str) -> CallToolResult:
        """Asks first."""
        done = await confirmed(delete=f"Delete {filename}?")
        return text(f"deleted {filename}" if done else f"kept {filename}")

    @server.tool()
    async def multi_input() -> CallToolResult:
        """Asks two things at once."""
        return text(f"confirmed: {await confirmed(first='First?', second='Second?')}")

    @server.tool()
    async def test_tool_with_task(ctx: Ctx) -> CallToolResult | InputRequiredResult:
        """Asks before it becomes a task."""
        answer = (ctx.input_responses or {}).get("user_name")
        if not isinstance(answer, ElicitResult) or answer.content is None:
            return InputRequiredResult(
                input_requests={"user_name": confirmation("Who?", "name", "string")}, request_state="asked"
            )
        return text(f"Hello, {answer.content['name']}!")
