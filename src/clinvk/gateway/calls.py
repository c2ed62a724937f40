"""What may be posted: the requests of the operations, plus how the answer is to come."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from clinvk.request import ChainRequest, CompareRequest, Flag, ParallelRequest, PromptRequest
from clinvk.response import ChainResult, CompareResult, DryRunResult, DryRunsResult, ParallelResult, PromptResult
from clinvk.tools import chain, compare, parallel, prompt
from clinvk.tools.app import App
from clinvk.tools.caller import Caller

RunResult = PromptResult | ParallelResult | ChainResult | CompareResult
Planned = DryRunResult | DryRunsResult
Result = RunResult | Planned
OutputFormat = Literal["json", "stream-json"]

_BACKGROUND = Field(default=False, description="Answer 202 at once; the run's state is then at `Location`.")
_FORMAT: Any = Field(default="json", description="`stream-json` streams the events of the run as lines of JSON.")


class PromptCall(PromptRequest):
    """One prompt on one backend."""

    background: Flag = _BACKGROUND
    output_format: OutputFormat = _FORMAT


class ParallelCall(ParallelRequest):
    """Several prompts at once; results come in task order."""

    background: Flag = _BACKGROUND
    output_format: OutputFormat = _FORMAT


class ChainCall(ChainRequest):
    """Prompts one after another, each fed from the ones before."""

    background: Flag = _BACKGROUND
    output_format: OutputFormat = _FORMAT


class CompareCall(CompareRequest):
    """The same prompt on several backends, ranked, and judged if asked."""

    background: Flag = _BACKGROUND
    output_format: OutputFormat = _FORMAT


Call = PromptCall | ParallelCall | ChainCall | CompareCall


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that starts a run: the model of its body, and what it does."""

    name: str
    call: type[Call]
    results: tuple[type[BaseModel], ...]
    run: Callable[[App, Any, Caller], Awaitable[Result]]
    request: type[PromptRequest | ParallelRequest | ChainRequest | CompareRequest]

    def asked(self, call: Call, wait_secs: float) -> BaseModel:
        """The operation's own request, without what only HTTP knows. It was validated already."""
        fields = {name: getattr(call, name) for name in self.request.model_fields} | {"wait_secs": wait_secs}
        return self.request.model_construct(call.model_fields_set & set(fields) | {"wait_secs"}, **fields)


OPERATIONS = (
    Operation("prompt", PromptCall, (PromptResult, DryRunResult), prompt.prompt, PromptRequest),
    Operation("parallel", ParallelCall, (ParallelResult, DryRunsResult), parallel.parallel, ParallelRequest),
    Operation("chain", ChainCall, (ChainResult, DryRunsResult), chain.chain, ChainRequest),
    Operation("compare", CompareCall, (CompareResult, DryRunsResult), compare.compare, CompareRequest),
)
