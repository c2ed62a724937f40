"""The operations that the tools call: what `clinvk.tools` offers, bound to an open application."""

from typing import Protocol

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


class Operations(Protocol):
    """One method per tool, under the tool's name. Each raises ClinvkError when it cannot do what was asked."""

    async def prompt(self, request: PromptRequest, caller: Caller) -> PromptResult | DryRunResult: ...

    async def parallel(self, request: ParallelRequest, caller: Caller) -> ParallelResult | DryRunsResult: ...

    async def chain(self, request: ChainRequest, caller: Caller) -> ChainResult | DryRunsResult: ...

    async def compare(self, request: CompareRequest, caller: Caller) -> CompareResult | DryRunsResult: ...

    async def sessions(self, request: SessionsRequest, caller: Caller) -> SessionsResult: ...

    async def session_edit(self, request: SessionEditRequest, caller: Caller) -> SessionEditResult: ...

    async def runs(self, request: RunsRequest, caller: Caller) -> RunsResult: ...

    async def cancel(self, request: CancelRequest, caller: Caller) -> CancelResult: ...

    async def backends(self, caller: Caller) -> BackendsResult: ...
