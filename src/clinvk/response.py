"""What every door answers with; field names are the contract."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from clinvk.errors import Failure
from clinvk.events import TokenUsage

RunStatus = Literal["completed", "failed", "cancelled", "running", "interrupted"]


class _Result(BaseModel):
    model_config = ConfigDict(defer_build=True)  # as in clinvk.request


class PromptResult(_Result):
    """The result of one prompt, alone or inside parallel, chain and compare."""

    run_id: str
    status: RunStatus
    backend: str
    model: str | None = None
    session_id: str | None = None
    output: str = ""
    output_truncated: bool = False
    output_chars: int = 0
    structured_output: Any = None
    partial: bool = False
    exit_code: int | None = None
    duration_ms: int = 0
    token_usage: TokenUsage = TokenUsage()
    cost_usd: float | None = None
    stop_reason: str | None = None
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class TaskResult(PromptResult):
    """One task of a parallel run."""

    task: int
    id: str | None = None
    name: str | None = None


class ParallelResult(_Result):
    """Results in task order, whatever finished first."""

    run_id: str
    status: RunStatus
    total_tasks: int
    completed: int
    failed: int
    cancelled: int
    total_duration_ms: int
    results: list[TaskResult]
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class StepResult(PromptResult):
    """One step of a chain; `step` counts from 1."""

    step: int
    name: str | None = None


class ChainResult(_Result):
    """The steps that ran; `failed_step` is the number of the first that failed."""

    run_id: str
    status: RunStatus
    total_steps: int
    completed_steps: int
    failed_step: int | None = None
    total_duration_ms: int
    results: list[StepResult]
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class Ranked(_Result):
    """A place in the ranking; 1 is best, by the judge where there is one, else by success, then time."""

    place: int
    backend: str
    model: str | None = None
    duration_ms: int
    cost_usd: float | None = None
    score: float | None = None


class Verdict(_Result):
    """What the judge said about the anonymised answers."""

    judge: str
    winner: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    reasons: str = ""
    error: Failure | None = None


class CompareResult(_Result):
    """The same prompt on several backends."""

    run_id: str
    status: RunStatus
    prompt: str
    backends: list[str]
    total_duration_ms: int
    results: list[PromptResult]
    ranking: list[Ranked]
    verdict: Verdict | None = None
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class DryRunResult(_Result):
    """What would run; `env` lists names of variables only, secrets in `argv` are redacted."""

    dry_run: Literal[True] = True
    backend: str
    model: str | None = None
    argv: list[str]
    cwd: str
    env: list[str]
    stdin_chars: int
    warnings: list[str] = Field(default_factory=list)


class DryRunTask(DryRunResult):
    """What one task of a parallel run would start."""

    task: int
    id: str | None = None
    name: str | None = None


class DryRunStep(DryRunResult):
    """What one step of a chain would start."""

    step: int
    name: str | None = None


class DryRunsResult(_Result):
    """What a parallel, a chain or a comparison would start, in the order of its results."""

    dry_run: Literal[True] = True
    results: list[SerializeAsAny[DryRunResult]]


class SessionSummary(_Result):
    """The head of a session, as a listing shows it."""

    id: str
    backend: str
    title: str = ""
    status: str
    created_at: str
    last_used: str
    working_dir: str
    model: str | None = None
    turn_count: int = 0
    token_usage: TokenUsage = TokenUsage()
    cost_usd: float | None = None
    tags: list[str] = Field(default_factory=list)
    parent_id: str | None = None
    snippet: str | None = None


class SessionTurn(_Result):
    """One turn of a session, prompt and answer cut to what a caller can use."""

    number: int
    run_id: str
    prompt: str
    output: str
    backend: str
    model: str | None = None
    status: str
    started_at: str
    ended_at: str
    token_usage: TokenUsage = TokenUsage()
    cost_usd: float | None = None
    error: str | None = None


class SessionsResult(_Result):
    """A page of sessions, or one with a page of its turns (then `session` and `turns` are set)."""

    sessions: list[SessionSummary] = Field(default_factory=list[SessionSummary])
    total: int
    limit: int
    offset: int
    session: SessionSummary | None = None
    backend_session_id: str | None = None
    initial_prompt: str | None = None
    metadata: dict[str, Any] | None = None
    turns: list[SessionTurn] | None = None
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class SessionEditResult(_Result):
    """The session after the change; `deleted` when it is gone."""

    action: str
    session: SessionSummary | None = None
    deleted: bool = False
    error: Failure | None = None


class RunSummary(_Result):
    """One run as a listing shows it."""

    run_id: str
    kind: str
    status: RunStatus
    unread: bool
    backend: str = ""
    title: str = ""
    workdir: str = ""
    session_id: str | None = None
    parent_id: str | None = None
    created_at: str
    duration_ms: int | None = None
    error_code: str | None = None


class RunsResult(_Result):
    """A page of runs; or a run's `result` with its newest events; or a piece of its output."""

    runs: list[RunSummary] | None = None
    total: int | None = None
    run: RunSummary | None = None
    result: PromptResult | ParallelResult | ChainResult | CompareResult | None = None
    events: list[dict[str, Any]] | None = None
    children: list[RunSummary] | None = None
    text: str | None = None
    matches: list[dict[str, Any]] | None = None
    offset: int | None = None
    next_offset: int | None = None
    total_chars: int | None = None
    warnings: list[str] = Field(default_factory=list)
    error: Failure | None = None


class CancelResult(_Result):
    """What became of a run that was asked to stop; `already_ended` when there was nothing to stop."""

    run_id: str
    status: RunStatus
    already_ended: bool = False
    error: Failure | None = None


class BackendInfo(_Result):
    """One backend on this machine: what is installed, and what it can enforce."""

    name: str
    title: str
    available: bool
    enabled: bool
    path: str | None = None
    found_by: str | None = None
    version: str | None = None
    login: str = "unknown"
    login_detail: str = ""
    models: list[str] = Field(default_factory=list)
    default_model: str | None = None
    approval_modes: list[str] = Field(default_factory=list)
    sandbox_modes: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list)
    extra_flags: list[str] = Field(default_factory=list)
    streams_text: bool = False
    notes: dict[str, str] = Field(default_factory=dict)
    hint: str | None = None


class BackendsResult(_Result):
    """Every backend, and the limits under which runs are admitted."""

    backends: list[BackendInfo]
    default_backend: str | None = None
    limits: dict[str, float] = Field(default_factory=dict)
    error: Failure | None = None
