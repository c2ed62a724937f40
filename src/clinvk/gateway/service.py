"""What the handlers share, and what a request tells the guards around it."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.types import Scope

from clinvk.errors import Failure
from clinvk.executor.live import Listener
from clinvk.gateway.calls import Result, RunResult
from clinvk.gateway.drain import Drain
from clinvk.response import ChainResult, CompareResult, DryRunResult, DryRunsResult, ParallelResult, PromptResult
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.eventlog import EventLog
from clinvk.web.guard import OWNER

TRAIL = "clinvk.trail"
ANONYMOUS = "http"  # who calls, where no keys are needed


@dataclass(slots=True)
class Trail:
    """What a request did, for the audit log, the metrics and the log line; filled in on the way."""

    operation: str = ""
    backend: str = ""
    workdir: str = ""
    run_id: str = ""
    outcome: str = ""
    error_code: str = ""
    cost_usd: float | None = None
    prompts: list[str] = field(default_factory=list[str])
    used_tools: bool = False

    def failed(self, failure: Failure) -> None:
        """The request was refused, or its run failed."""
        self.outcome, self.error_code = "failed", failure.code

    def ended(self, result: Result) -> None:
        """The operation answered."""
        if isinstance(result, DryRunResult):
            self.outcome, self.backend, self.workdir = "dry_run", result.backend, result.cwd
            return
        if isinstance(result, DryRunsResult):
            self.outcome = "dry_run"
            self.backend = ",".join(dict.fromkeys(each.backend for each in result.results))
            return
        self.run_id, self.outcome, self.cost_usd = result.run_id, result.status, cost(result)
        if result.error is not None:
            self.error_code = result.error.code
        self.backend = backends(result)


def parts(result: RunResult) -> list[PromptResult]:
    """The prompts that a result is made of."""
    match result:
        case PromptResult():
            return [result]
        case ParallelResult() | ChainResult() | CompareResult():
            return list(result.results)


def backends(result: RunResult) -> str:
    """The backends that had a part in a result."""
    return ",".join(dict.fromkeys(part.backend for part in parts(result) if part.backend))


def cost(result: RunResult) -> float | None:
    """What a result cost; None when nobody said."""
    known = [part.cost_usd for part in parts(result) if part.cost_usd is not None]
    return sum(known) if known else None


def _began_tool(log: EventLog) -> bool:
    for line in log.lines():
        with suppress(ValueError):  # damaged
            match json.loads(line):
                case {"type": "tool_started"}:
                    return True
                case _:
                    pass
    return False


def trail_of(scope: Scope) -> Trail:
    """The trail of a request."""
    trail: Trail = scope.setdefault(TRAIL, Trail())
    return trail


@dataclass(frozen=True, slots=True)
class Service:
    """clinvk as the handlers use it; `cwd` is where a call without a workdir works."""

    app: App
    cwd: Path
    drain: Drain

    @property
    def wait_secs(self) -> float:
        """The longest wait of a call."""
        return self.app.config.server.request_timeout_secs

    def used_tools(self, result: RunResult) -> bool:
        """Whether an agent that failed without a word had used a tool before: it may have changed files."""
        silent = [part.run_id for part in parts(result) if part.error is not None and not part.output]
        return any(_began_tool(EventLog(self.app, run_id)) for run_id in silent)

    def session_of(self, run_id: str) -> str | None:
        """The session in which a run is a turn; there is none when it is ephemeral."""
        live = self.app.executor.live.get(run_id)
        return (live.record if live else self.app.runs.record(run_id)).session_id

    def caller(self, request: Request, listener: Listener | None = None, attachments: tuple[Path, ...] = ()) -> Caller:
        """Who calls: the owner of the key."""
        client: str = request.scope.get(OWNER) or ANONYMOUS
        return Caller(client=client, cwd=self.cwd, listener=listener, attachments=attachments)
