"""Sessions and runs as resources, for clients that attach them to a conversation."""

from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from clinvk.errors import ClinvkError
from clinvk.mcp_server import texts
from clinvk.mcp_server.operations import Operations
from clinvk.request import RunsRequest, SessionsRequest
from clinvk.tools.caller import Caller

SESSION = "clinvk://sessions/{id}"
RUN_OUTPUT = "clinvk://runs/{id}/output"
_LISTED = 50
_TURNS = 100
_OUTPUT_CHARS = 200_000


def add(server: MCPServer[Any], operations: Operations, caller: Caller) -> None:
    """Register the resources."""
    reader = Reader(operations, caller)
    for uri, title, mime_type, read in (
        ("clinvk://backends", "Backends", "text/plain", reader.backends),
        ("clinvk://sessions", "Sessions", "text/plain", reader.sessions),
        ("clinvk://runs", "Runs", "text/plain", reader.runs),
        (SESSION, "Session", "text/markdown", reader.session),
        (RUN_OUTPUT, "Output of a run", "text/plain", reader.run_output),
    ):
        server.resource(uri, title=title, mime_type=mime_type)(read)


class Reader:
    """Reads what a resource names; the docstrings are the resources' descriptions."""

    def __init__(self, operations: Operations, caller: Caller) -> None:
        self._operations = operations
        self._caller = caller

    async def backends(self) -> str:
        """The agent CLIs: what is installed, models, what each can enforce."""
        return texts.of(await self._operations.backends(self._caller))

    async def sessions(self) -> str:
        """The newest conversations."""
        return texts.of(await self._operations.sessions(SessionsRequest(action="list", limit=_LISTED), self._caller))

    async def runs(self) -> str:
        """The newest runs, those not read yet first."""
        return await self._runs(RunsRequest(action="list", limit=_LISTED))

    async def session(self, id: str) -> str:  # noqa: A002 - the name in the template
        """One conversation with its turns; of a long one the newest."""
        request = SessionsRequest(action="show", session_id=id, limit=_TURNS)
        try:
            result = await self._operations.sessions(request, self._caller)
            if result.total > _TURNS:
                newest = request.model_copy(update={"offset": result.total - _TURNS})
                result = await self._operations.sessions(newest, self._caller)
        except ClinvkError as error:
            raise _refused(error) from error
        return texts.of(result)

    async def run_output(self, id: str) -> str:  # noqa: A002 - the name in the template
        """The full answer of a run."""
        return await self._runs(RunsRequest(action="output", run_id=id, limit=_OUTPUT_CHARS))

    async def _runs(self, request: RunsRequest) -> str:
        try:
            result = await self._operations.runs(request, self._caller)
        except ClinvkError as error:
            raise _refused(error) from error
        if result.text is not None and result.next_offset is None:
            return result.text
        return texts.of(result)


def _refused(error: ClinvkError) -> ResourceError:
    kind = ResourceNotFoundError if error.failure.code in ("session_not_found", "run_not_found") else ResourceError
    return kind(texts.failure(error.failure))
