"""clinvk itself behind the tools, served until its client leaves or a signal comes."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer

from clinvk.config.cascade import Loaded
from clinvk.mcp_server import server as servers
from clinvk.mcp_server import signals, stdio
from clinvk.mcp_server.fitting import Composite, fitted, fitted_run
from clinvk.mcp_server.runtasks import RunResuming, RunTasks
from clinvk.mcp_server.tasks import Tasks
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
from clinvk.tools import backends, chain, compare, parallel, prompt, runs, sessions
from clinvk.tools.app import App
from clinvk.tools.caller import Caller, working_directory
from clinvk.tools.housekeeping import served


class AppOperations:
    """The operations of `clinvk.tools` on an open App; satisfies `Operations`."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._room = 2 * app.config.output.max_chars  # of the parts of one answer together

    async def prompt(self, request: PromptRequest, caller: Caller) -> PromptResult | DryRunResult:
        return await prompt.prompt(self.app, request, caller)

    async def parallel(self, request: ParallelRequest, caller: Caller) -> ParallelResult | DryRunsResult:
        return self._fitted(await parallel.parallel(self.app, request, caller))

    async def chain(self, request: ChainRequest, caller: Caller) -> ChainResult | DryRunsResult:
        return self._fitted(await chain.chain(self.app, request, caller))

    async def compare(self, request: CompareRequest, caller: Caller) -> CompareResult | DryRunsResult:
        return self._fitted(await compare.compare(self.app, request, caller))

    def _fitted(self, result: Composite | DryRunsResult) -> Composite | DryRunsResult:
        return result if isinstance(result, DryRunsResult) else fitted(result, self._room)

    async def sessions(self, request: SessionsRequest, caller: Caller) -> SessionsResult:
        return await sessions.sessions(self.app, request)

    async def session_edit(self, request: SessionEditRequest, caller: Caller) -> SessionEditResult:
        return await sessions.session_edit(self.app, request)

    async def runs(self, request: RunsRequest, caller: Caller) -> RunsResult:
        return fitted_run(await runs.runs(self.app, request, caller), self._room)

    async def cancel(self, request: CancelRequest, caller: Caller) -> CancelResult:
        return await runs.cancel(self.app, request)

    async def backends(self, caller: Caller) -> BackendsResult:
        return await backends.backends(self.app)


@asynccontextmanager
async def server_of(loaded: Loaded, environ: Mapping[str, str]) -> AsyncGenerator[tuple[MCPServer[Any], AppOperations]]:
    """A server over clinvk as configured; at its end, what is still waited for is stopped.

    Raises:
        ClinvkError: if clinvk's home cannot be used.
    """
    async with served(loaded, environ) as app:
        yield server_over(app)


def server_over(app: App) -> tuple[MCPServer[Any], AppOperations]:
    """A server over clinvk as it is open already."""
    operations = AppOperations(app)
    server = servers.build(
        operations,
        cwd=working_directory(app.home),
        wait_secs=app.config.mcp.wait_secs,
        resuming=RunResuming(app),
        extensions=[Tasks(RunTasks(app))],
    )
    return server, operations


async def serve_stdio(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve one client on standard input and output."""
    async with signals.cancelled_by_signal() as stopped, server_of(loaded, environ) as (server, _):
        with stopped:
            await stdio.serve(servers.lowlevel(server))
