"""Mistakes that the SDK answers before a tool or a prompt is reached, told so that the caller can mend them."""

import difflib
from collections.abc import Mapping
from typing import Any, cast

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import INVALID_PARAMS

from clinvk.mcp_server.catalog import CATALOG

_TOOLS = tuple(entry.name for entry in CATALOG)
_UNKNOWN = "Unknown tool: "
_SHOWN_CHARS = 60


async def explained(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """MCP middleware. Raises MCPError(-32602) with the reason, where the SDK would give none, or a code of its own."""
    match ctx.method:
        case "prompts/get":
            try:
                return await call_next(ctx)
            except ValueError as error:  # an unknown prompt or a missing argument
                raise MCPError(INVALID_PARAMS, str(error)) from error
        case "tools/call":
            _check_call(ctx.params or {})
            return _with_tools(await call_next(ctx))
        case _:
            return await call_next(ctx)


def _check_call(params: Mapping[str, Any]) -> None:
    if not isinstance(params.get("name"), str):
        raise MCPError(INVALID_PARAMS, f"name must be the name of a tool, one of {', '.join(_TOOLS)}")
    arguments = params.get("arguments", {})
    if not isinstance(arguments, Mapping):
        shown = repr(cast("object", arguments))[:_SHOWN_CHARS]
        raise MCPError(INVALID_PARAMS, f"arguments must be an object, and is {shown}")


def _with_tools(result: HandlerResult) -> HandlerResult:
    """The SDK's answer to an unknown tool, with the tools that there are."""
    if not isinstance(result, dict) or not result.get("isError"):
        return result
    content = cast("list[dict[str, Any]]", result.get("content") or [{}])
    text = content[0].get("text")
    if isinstance(text, str) and text.startswith(_UNKNOWN) and "structuredContent" not in result:
        near = difflib.get_close_matches(text.removeprefix(_UNKNOWN), _TOOLS, n=1)
        nearest = f"did you mean {near[0]}? " if near else ""
        result["content"] = [{**content[0], "text": f"{text}; {nearest}tools: {', '.join(_TOOLS)}"}]
    return result
