"""The tools: which request each takes, which operation it calls, and what it answers when that was refused."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from clinvk.errors import Failure
from clinvk.mcp_server.operations import Operations
from clinvk.mcp_server.texts import Result
from clinvk.request import (
    CancelRequest,
    ChainRequest,
    CompareRequest,
    ParallelRequest,
    PromptRequest,
    RunsRequest,
    SessionEditRequest,
    SessionsRequest,
)
from clinvk.response import (
    BackendsResult,
    CancelResult,
    ChainResult,
    CompareResult,
    DryRunResult,
    DryRunsResult,
    ParallelResult,
    PromptResult,
    RunsResult,
    SessionEditResult,
    SessionsResult,
)
from clinvk.tools.caller import Caller

Arguments = Mapping[str, Any]


class NoArguments(BaseModel):
    """The request of a tool that takes nothing."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tool. `refused` shapes a failure to do anything at all as the tool's own result.

    `max_result_chars` is told to clients that would otherwise cut long results.
    """

    name: str
    request: type[BaseModel]
    results: tuple[type[BaseModel], ...]
    call: Callable[[Operations, Any, Caller], Awaitable[Result]]
    refused: Callable[[Arguments, Failure], Result]
    reads_only: bool = False
    idempotent: bool = False
    open_world: bool = False
    max_result_chars: int | None = None
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""


def _count(arguments: Arguments, name: str) -> int:
    value: object = arguments.get(name)
    return len(cast("list[object]", value)) if isinstance(value, list) else 0


def _no_prompt(arguments: Arguments, failure: Failure) -> PromptResult:
    backend = failure.backend or _text(arguments, "backend")
    return PromptResult(run_id="", status="failed", backend=backend, error=failure)


def _no_parallel(arguments: Arguments, failure: Failure) -> ParallelResult:
    return ParallelResult(
        run_id="",
        status="failed",
        total_tasks=_count(arguments, "tasks"),
        completed=0,
        failed=0,
        cancelled=0,
        total_duration_ms=0,
        results=[],
        error=failure,
    )


def _no_chain(arguments: Arguments, failure: Failure) -> ChainResult:
    return ChainResult(
        run_id="",
        status="failed",
        total_steps=_count(arguments, "steps"),
        completed_steps=0,
        total_duration_ms=0,
        results=[],
        error=failure,
    )


def _no_compare(arguments: Arguments, failure: Failure) -> CompareResult:
    return CompareResult(
        run_id="",
        status="failed",
        prompt=_text(arguments, "prompt"),
        backends=[],
        total_duration_ms=0,
        results=[],
        ranking=[],
        error=failure,
    )


CATALOG: tuple[Entry, ...] = (
    Entry(
        name="prompt",
        request=PromptRequest,
        results=(PromptResult, DryRunResult),
        call=lambda operations, request, caller: operations.prompt(request, caller),
        refused=_no_prompt,
        open_world=True,
        max_result_chars=200_000,
    ),
    Entry(
        name="parallel",
        request=ParallelRequest,
        results=(ParallelResult, DryRunsResult),
        call=lambda operations, request, caller: operations.parallel(request, caller),
        refused=_no_parallel,
        open_world=True,
        max_result_chars=500_000,
    ),
    Entry(
        name="chain",
        request=ChainRequest,
        results=(ChainResult, DryRunsResult),
        call=lambda operations, request, caller: operations.chain(request, caller),
        refused=_no_chain,
        open_world=True,
        max_result_chars=500_000,
    ),
    Entry(
        name="compare",
        request=CompareRequest,
        results=(CompareResult, DryRunsResult),
        call=lambda operations, request, caller: operations.compare(request, caller),
        refused=_no_compare,
        open_world=True,
        max_result_chars=500_000,
    ),
    Entry(
        name="sessions",
        request=SessionsRequest,
        results=(SessionsResult,),
        call=lambda operations, request, caller: operations.sessions(request, caller),
        refused=lambda _arguments, failure: SessionsResult(total=0, limit=0, offset=0, error=failure),
        reads_only=True,
        idempotent=True,
        max_result_chars=200_000,
    ),
    Entry(
        name="session_edit",
        request=SessionEditRequest,
        results=(SessionEditResult,),
        call=lambda operations, request, caller: operations.session_edit(request, caller),
        refused=lambda arguments, failure: SessionEditResult(action=_text(arguments, "action"), error=failure),
    ),
    Entry(
        name="runs",
        request=RunsRequest,
        results=(RunsResult,),
        call=lambda operations, request, caller: operations.runs(request, caller),
        refused=lambda _arguments, failure: RunsResult(error=failure),
        reads_only=True,
        idempotent=True,
        max_result_chars=500_000,
        values={"status": ("unread", "running", "completed", "failed", "cancelled", "interrupted")},
    ),
    Entry(
        name="cancel",
        request=CancelRequest,
        results=(CancelResult,),
        call=lambda operations, request, caller: operations.cancel(request, caller),
        refused=lambda arguments, failure: CancelResult(
            run_id=_text(arguments, "run_id"), status="failed", error=failure
        ),
        idempotent=True,
    ),
    Entry(
        name="backends",
        request=NoArguments,
        results=(BackendsResult,),
        call=lambda operations, _request, caller: operations.backends(caller),
        refused=lambda _arguments, failure: BackendsResult(backends=[], error=failure),
        reads_only=True,
        idempotent=True,
    ),
)
