"""Puts the results of child runs together into that of their parent; pure, so that any process can do it."""

import time
from collections.abc import Mapping

from clinvk.errors import Failure
from clinvk.executor.runs import RunRecord
from clinvk.request import ChainRequest, ChainStep, CompareRequest, ParallelRequest, ParallelTask
from clinvk.response import (
    ChainResult,
    CompareResult,
    ParallelResult,
    PromptResult,
    Ranked,
    RunStatus,
    StepResult,
    TaskResult,
    Verdict,
)

Children = Mapping[int, PromptResult]


def elapsed_ms(record: RunRecord) -> int:
    """How long ago the run was asked for."""
    return max(0, round((time.time() - record.created_at) * 1000))


def assembled(
    record: RunRecord, children: Children, status: RunStatus | None = None
) -> ParallelResult | ChainResult | CompareResult:
    """The result of a run from those of its children; `status` where it does not follow from them."""
    match record.kind:
        case "parallel":
            return parallel(record, ParallelRequest.model_validate(record.request), children, status)
        case "chain":
            return chain(record, ChainRequest.model_validate(record.request), children, status)
        case "compare":
            return compare(record, CompareRequest.model_validate(record.request), children, status)
        case "prompt":
            raise AssertionError("a prompt has no children")


def not_started(backend: str, status: RunStatus, model: str | None = None) -> PromptResult:
    """What stands for a child that has not begun, or never will."""
    error = None
    if status != "running":
        error = Failure(code="cancelled", message="it was not started", hint="ask for it again")
        status = "cancelled"
    return PromptResult(run_id="", status=status, backend=backend, model=model, error=error)


def parallel(
    record: RunRecord, request: ParallelRequest, children: Children, status: RunStatus | None
) -> ParallelResult:
    """Results in task order; completed only when every task is."""
    results = [_task(number, task, children, status) for number, task in enumerate(request.tasks, 1)]
    counts = {name: sum(result.status == name for result in results) for name in ("completed", "cancelled", "running")}
    failed = sum(result.status in ("failed", "interrupted") for result in results)
    if status is None:
        status = "failed" if failed else "cancelled" if counts["cancelled"] else "completed"
    return ParallelResult(
        run_id=record.id,
        status=status,
        total_tasks=len(results),
        completed=counts["completed"],
        failed=failed,
        cancelled=counts["cancelled"],
        total_duration_ms=elapsed_ms(record),
        results=results,
    )


def _task(number: int, task: ParallelTask, children: Children, status: RunStatus | None) -> TaskResult:
    result = children.get(number) or not_started(task.backend or "", status or "cancelled", task.model)
    return TaskResult(**dict(result), task=number, id=task.id, name=task.name)


def chain(record: RunRecord, request: ChainRequest, children: Children, status: RunStatus | None) -> ChainResult:
    """The steps that ran, in order."""
    results = [
        StepResult(**dict(children[number]), step=number, name=step.name)
        for number, step in enumerate(request.steps, 1)
        if number in children
    ]
    bad = next((result for result in results if result.status not in ("completed", "running")), None)
    if status is None:
        status = bad.status if bad else "completed"
    return ChainResult(
        run_id=record.id,
        status=status,
        total_steps=len(request.steps),
        completed_steps=sum(result.status == "completed" for result in results),
        failed_step=bad.step if bad else None,
        total_duration_ms=elapsed_ms(record),
        results=results,
        error=_why(bad),
    )


def _why(bad: StepResult | None) -> Failure | None:
    return bad.error if bad else None


def step_name(step: ChainStep, number: int) -> str:
    """How an error names a step."""
    return f"step {number} ({step.name})" if step.name else f"step {number}"


def compare(
    record: RunRecord,
    request: CompareRequest,
    children: Children,
    status: RunStatus | None,
    verdict: Verdict | None = None,
) -> CompareResult:
    """The answers side by side; completed when at least one backend answered."""
    backends = request.backends or []
    results = [
        children.get(number) or not_started(name, status or "cancelled", request.models.get(name))
        for number, name in enumerate(backends, 1)
    ]
    if status is None:
        states = {result.status for result in results}
        status = "completed" if "completed" in states else "cancelled" if states == {"cancelled"} else "failed"
    return CompareResult(
        run_id=record.id,
        status=status,
        prompt=request.prompt,
        backends=backends,
        total_duration_ms=elapsed_ms(record),
        results=results,
        ranking=_ranking(results, verdict),
        verdict=verdict,
        error=results[0].error if status == "failed" else None,
    )


def _ranking(results: list[PromptResult], verdict: Verdict | None) -> list[Ranked]:
    """The judge's order where there is one; otherwise, and among equals, the faster answer first."""
    scores = verdict.scores if verdict else {}
    answered = [result for result in results if result.status == "completed"]
    order = sorted(answered, key=lambda result: (-scores.get(result.backend, -1.0), result.duration_ms))
    return [
        Ranked(
            place=place,
            backend=result.backend,
            model=result.model,
            duration_ms=result.duration_ms,
            cost_usd=result.cost_usd,
            score=scores.get(result.backend),
        )
        for place, result in enumerate(order, 1)
    ]
