"""Completion of what a person types for a prompt or a resource: backends, models, ids of sessions and runs."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from mcp.server import MCPServer
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from clinvk.backends.registry import BACKENDS
from clinvk.errors import ClinvkError
from clinvk.mcp_server import resources
from clinvk.mcp_server.operations import Operations
from clinvk.request import RunsRequest, SessionsRequest
from clinvk.tools.caller import Caller

MOST_VALUES = 100  # the protocol's bound
_LOOKED_AT = 500
_Complete = Callable[
    [PromptReference | ResourceTemplateReference, CompletionArgument, CompletionContext | None], Awaitable[Completion]
]
_BACKEND_ARGUMENTS = ("backend", "planner", "implementer")


def add(server: MCPServer[Any], operations: Operations, caller: Caller) -> None:
    """Register the handler."""
    register = cast("Callable[[_Complete], _Complete]", server.completion())  # type: ignore[no-untyped-call]
    register(Completer(operations, caller).complete)


class Completer:
    """Finds what an argument may be."""

    def __init__(self, operations: Operations, caller: Caller) -> None:
        self._operations = operations
        self._caller = caller

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """The values that begin with what was typed."""
        given = context.arguments if context is not None else None
        try:
            values = list(await self._values(ref, argument, given or {}))
        except ClinvkError:
            values = []
        found = [value for value in values if value.lower().startswith(argument.value.lower())]
        return Completion(values=found[:MOST_VALUES], total=len(found), has_more=len(found) > MOST_VALUES)

    async def _values(
        self, ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, given: Mapping[str, str]
    ) -> Iterable[str]:
        if isinstance(ref, ResourceTemplateReference):
            return await self._ids(ref.uri)
        if argument.name in _BACKEND_ARGUMENTS:
            return BACKENDS
        if argument.name == "backends":
            done, comma, _ = argument.value.rpartition(",")
            return [f"{done}{comma}{name}" for name in BACKENDS if name not in done.split(",")]
        if argument.name == "model":
            return await self._models(given.get("backend", ""))
        return []

    async def _ids(self, uri: str) -> list[str]:
        if uri == resources.SESSION:
            page = await self._operations.sessions(SessionsRequest(action="list", limit=_LOOKED_AT), self._caller)
            return [session.id for session in page.sessions]
        if uri == resources.RUN_OUTPUT:
            found = await self._operations.runs(RunsRequest(action="list", limit=_LOOKED_AT), self._caller)
            return [run.run_id for run in found.runs or []]
        return []

    async def _models(self, backend: str) -> list[str]:
        infos = (await self._operations.backends(self._caller)).backends
        chosen = [info for info in infos if backend in ("", info.name)]
        configured = [info.default_model for info in chosen if info.default_model]
        return list(dict.fromkeys([*configured, *(model for info in chosen for model in info.models)]))
