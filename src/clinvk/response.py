"""What every door answers with; field names are the contract."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from clinvk.errors import Failure
from clinvk.events import TokenUsage

RunStatus = Literal["completed", "failed", "cancelled", "running", "interrupted"]


class PromptResult(BaseModel):
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


class ParallelResult(BaseModel):
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


class ChainResult(BaseModel):
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


class Ranked(BaseModel):
    """A place in the ranking; 1 is best, by the judge where there is one, else by success, then time."""

    place: int
    backend: str
    model: str | None = None
    duration_ms: int
    cost_usd: float | None = None
    score: float | None = None


class Verdict(BaseModel):
    """What the judge said about the anonymised answers."""

    judge: str
    winner: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    reasons: str = ""
    error: Failure | None = None


class CompareResult(BaseModel):
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


class DryRunResult(BaseModel):
    """What would run; `env` lists names of variables only, secrets in `argv` are redacted."""

    dry_run: Literal[True] = True
    backend: str
    model: str | None = None
    argv: list[str]
    cwd: str
    env: list[str]
    stdin_chars: int
    warnings: list[str] = Field(default_factory=list)
