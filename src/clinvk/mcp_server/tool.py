"""One tool of the catalog as the SDK serves it: arguments -> request -> operation -> result and text.

Schemas and argument checks are ours (see schema.py and arguments.py), so the SDK's own, derived from a function's
signature, are passed by. Whatever goes wrong is a result with `isError`, never a protocol error: the model must see it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import BaseModel

from clinvk.backends.registry import BACKENDS
from clinvk.errors import ClinvkError, Failure
from clinvk.mcp_server import approvals, arguments, schema, texts
from clinvk.mcp_server.approvals import Resuming
from clinvk.mcp_server.catalog import Arguments, Entry
from clinvk.mcp_server.operations import Operations
from clinvk.mcp_server.progress import News, Pace, reported
from clinvk.mcp_server.wording import WORDS
from clinvk.request import RunsRequest
from clinvk.tools.caller import Caller, QuestionPending
from clinvk.web.guard import OWNER

_log = logging.getLogger(__name__)
_MAX_RESULT_CHARS = "anthropic/maxResultSizeChars"


@dataclass(frozen=True, slots=True)
class Serving:
    """What the tools of one server share: `cwd` is where a call without a workdir works.

    Without `resuming`, nobody can be asked who is to be asked between two calls.
    """

    operations: Operations
    cwd: Path
    pace: Pace
    resuming: Resuming | None = None


class RawTool(Tool):
    """A tool whose function takes the arguments as they came and answers with the whole result."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Call the function; `convert_result` is moot because it answers with a CallToolResult."""
        return await self.fn(arguments, context)


def build(entry: Entry, serving: Serving) -> Tool:
    """The tool that the SDK registers."""
    words = WORDS[entry.name]

    async def call(given: Arguments, context: Context[Any, Any]) -> CallToolResult | InputRequiredResult:
        return await _answer(entry, serving, given, context)

    return RawTool(
        fn=call,
        name=entry.name,
        title=words.title,
        description=words.description,
        parameters=schema.of_request(entry.request, words.notes, _values(entry)),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=schema.of_result(*entry.results)),
        is_async=True,
        context_kwarg="context",
        annotations=ToolAnnotations(
            title=words.title,
            read_only_hint=entry.reads_only,
            destructive_hint=not entry.reads_only,
            idempotent_hint=entry.idempotent,
            open_world_hint=entry.open_world,
        ),
        meta={_MAX_RESULT_CHARS: entry.max_result_chars} if entry.max_result_chars else None,
    )


def _values(entry: Entry) -> Mapping[str, Sequence[str]]:
    backends = tuple(BACKENDS)
    return {"backend": backends, "backends": backends, "judge": backends, **entry.values}


async def _answer(
    entry: Entry, serving: Serving, given: Arguments, context: Context[Any, Any]
) -> CallToolResult | InputRequiredResult:
    backend: object = given.get("backend")
    parts: object = given.get("tasks") or given.get("steps") or given.get("backends")
    total = len(cast("list[object]", parts)) if isinstance(parts, list) else 1
    news = News(backend if isinstance(backend, str) else None, total)

    async def report(seconds: float, message: str) -> None:
        await context.report_progress(seconds, None, message)  # does nothing for a client that sent no progressToken

    async with reported(report, news, serving.pace) as listener:
        way = approvals.way(context)
        caller = Caller(
            client=_client(context),
            cwd=serving.cwd,
            listener=listener,
            ask=approvals.asking(context) if way == "live" else None,
            asks_later=way == "later" and serving.resuming is not None,
        )
        result = await _result(entry, serving, given, caller, context)
    if isinstance(result, InputRequiredResult):
        return result
    if serving.resuming is not None:
        approvals.note(result, serving.resuming)
    return answer(result)


def answer(result: texts.Result) -> CallToolResult:
    """A result as clients get it."""
    return CallToolResult(
        content=[TextContent(type="text", text=texts.of(result))],
        structured_content=result.model_dump(mode="json"),
        is_error=texts.is_failure(result),
    )


async def _result(
    entry: Entry, serving: Serving, given: Arguments, caller: Caller, context: Context[Any, Any]
) -> texts.Result | InputRequiredResult:
    """The operation's result, or its failure in the same shape; raises nothing but cancellation."""
    try:
        request: BaseModel = arguments.parse(entry.request, given)
        run_id = await approvals.answered(context, serving.resuming) if serving.resuming is not None else None
        if serving.resuming is not None and run_id is not None and not isinstance(request, RunsRequest):
            wait_secs: float | None = getattr(request, "wait_secs", None)
            return await serving.resuming.rejoin(run_id, wait_secs, caller)
        return await entry.call(serving.operations, request, caller)
    except QuestionPending as pending:
        assert serving.resuming is not None  # otherwise `asks_later` was not said
        return approvals.postponed(pending.question, serving.resuming)
    except ClinvkError as error:
        return entry.refused(given, error.failure)
    except Exception as error:  # noqa: BLE001 - this edge's boundary: a bug met by one call must not look like a crash
        _log.exception("tool %s failed unexpectedly", entry.name)
        failure = Failure(
            code="internal",
            message=f"{type(error).__name__} in clinvk itself",
            hint="the server's standard error output has the details; please report them",
        )
        return entry.refused(given, failure)


def _client(context: Context[Any, Any]) -> str:
    """Who calls: the program, after the key it came with; two people with the same program are not the same."""
    params = context.session.client_params
    name = params.client_info.name if params is not None else "mcp"
    scope: Mapping[str, Any] = getattr(context.request_context.request, "scope", {})
    return f"{scope[OWNER]}/{name}" if OWNER in scope else name
