"""The short text of a result: what a model reads when it is shown nothing else.

An answer comes first and unchanged; what is needed to go on (ids, how to read the rest) follows in one line.
"""

from collections.abc import Sequence
from typing import assert_never

from pydantic import BaseModel

from clinvk.errors import Failure
from clinvk.response import (
    BackendInfo,
    BackendsResult,
    CancelResult,
    ChainResult,
    CompareResult,
    DryRunResult,
    DryRunsResult,
    DryRunStep,
    DryRunTask,
    ParallelResult,
    PromptResult,
    RunsResult,
    RunSummary,
    SessionEditResult,
    SessionsResult,
    SessionSummary,
    StepResult,
    TaskResult,
)

Result = (
    PromptResult
    | DryRunResult
    | DryRunsResult
    | ParallelResult
    | ChainResult
    | CompareResult
    | SessionsResult
    | SessionEditResult
    | RunsResult
    | CancelResult
    | BackendsResult
)


def of(result: Result) -> str:  # noqa: C901, PLR0911  one case per kind of result
    """The text of a result."""
    match result:
        case PromptResult():
            return _prompt(result)
        case DryRunResult():
            return _dry_run(result)
        case DryRunsResult():
            return _joined([f"## {_planned_name(each)}\n{_dry_run(each)}" for each in result.results])
        case ParallelResult():
            return _parallel(result)
        case ChainResult():
            return _chain(result)
        case CompareResult():
            return _compare(result)
        case SessionsResult():
            return _sessions(result)
        case SessionEditResult():
            return _session_edit(result)
        case RunsResult():
            return _runs(result)
        case CancelResult():
            return _cancel(result)
        case BackendsResult():
            return _backends(result)
        case _:
            assert_never(result)


def failure(error: Failure) -> str:
    """What happened and what to do."""
    text = f"{error.code}: {error.message}"
    if error.retry_after_secs is not None:
        text += f" (try again in {error.retry_after_secs:.0f} s)"
    return f"{text}\nHint: {error.hint}" if error.hint else text


def _prompt(result: PromptResult) -> str:
    return _joined([_answer(result), f"[{_footer(result)}]"])


def _answer(result: PromptResult) -> str:
    """The output of one prompt, or what became of it."""
    parts: list[str] = []
    if result.status == "running":
        parts.append(_still_running(result.run_id))
    elif result.error is not None:
        parts.append(failure(result.error))
    elif result.status != "completed":
        parts.append(f"The run is {result.status}.")
    if result.output:
        parts.append(f"Partial output:\n{result.output}" if parts else result.output)
    elif result.structured_output is None and not parts:
        parts.append("(no text)")
    if result.output_truncated:
        parts.append(
            f"[cut: {len(result.output)} of {result.output_chars} characters; "
            f'the rest: runs {{"action": "output", "run_id": "{result.run_id}", "offset": {len(result.output)}}}]'
        )
    parts += _warnings(result.warnings)
    return _joined(parts)


def _still_running(run_id: str) -> str:
    return (
        f'Still running. Fetch the result with runs {{"action": "wait", "run_id": "{run_id}"}}; do not start it again.'
    )


def _footer(result: PromptResult) -> str:
    parts = [f"{result.backend} {result.model}" if result.model else result.backend, result.status]
    if result.session_id:
        parts.append(f"session_id {result.session_id}")
    if result.run_id:
        parts.append(f"run_id {result.run_id}")
    parts.append(_seconds(result.duration_ms))
    if result.cost_usd:
        parts.append(f"${result.cost_usd:.4f}")
    return " · ".join(part for part in parts if part)


def _dry_run(result: DryRunResult) -> str:
    return _joined(
        [
            f"Would run {result.backend} in {result.cwd} with {result.stdin_chars} characters on stdin:",
            " ".join(result.argv),
            f"Environment variables: {', '.join(result.env)}",
            *_warnings(result.warnings),
        ]
    )


def _planned_name(part: DryRunResult) -> str:
    match part:
        case DryRunTask():
            return _task_name(part)
        case DryRunStep():
            return _step_name(part)
        case _:
            return part.backend


def _parallel(result: ParallelResult) -> str:
    return _composite(
        f"{result.completed} of {result.total_tasks} tasks completed, {result.failed} failed, "
        f"{result.cancelled} cancelled",
        result,
        [_part(_task_name(part), part) for part in result.results],
    )


def _task_name(task: TaskResult | DryRunTask) -> str:
    name = task.name or task.id
    return f"Task {task.task} ({name})" if name else f"Task {task.task}"


def _chain(result: ChainResult) -> str:
    summary = f"{result.completed_steps} of {result.total_steps} steps completed"
    if result.failed_step is not None:
        summary += f"; step {result.failed_step} failed"
    return _composite(summary, result, [_part(_step_name(part), part) for part in result.results])


def _step_name(step: StepResult | DryRunStep) -> str:
    return f"Step {step.step} ({step.name})" if step.name else f"Step {step.step}"


def _compare(result: CompareResult) -> str:
    done = sum(part.status == "completed" for part in result.results)
    text = _composite(
        f"{done} of {len(result.backends)} backends answered",
        result,
        [_part(part.backend, part) for part in result.results],
    )
    places = ", ".join(f"{place.place}. {place.backend}" for place in result.ranking)
    parts = [text, f"Ranking: {places}" if places else ""]
    if result.verdict is not None:
        verdict = result.verdict
        said = failure(verdict.error) if verdict.error else f"winner {verdict.winner or 'none'}. {verdict.reasons}"
        parts.append(f"Verdict of {verdict.judge}: {said}")
    return _joined(parts)


def _composite(summary: str, result: ParallelResult | ChainResult | CompareResult, parts: Sequence[str]) -> str:
    known = [_seconds(result.total_duration_ms), f"run_id {result.run_id}" if result.run_id else ""]
    head = " · ".join([f"{result.status}: {summary}", *(part for part in known if part)])
    more = [_still_running(result.run_id)] if result.status == "running" else []
    if result.error is not None:
        more.append(failure(result.error))
    return _joined([head, *more, *_warnings(result.warnings), *parts])


def _part(name: str, result: PromptResult) -> str:
    return f"## {name} · {_footer(result)}\n{_answer(result)}"


def _sessions(result: SessionsResult) -> str:
    if result.error is not None:
        return failure(result.error)
    if result.session is not None:
        head = [_session(result.session)]
        turns = [
            f"## Turn {turn.number} · {turn.backend} · {turn.status} · {turn.started_at}\n"
            f"> {turn.prompt}\n\n{turn.output}"
            for turn in result.turns or []
        ]
        if len(turns) < result.total:
            head.append(f"[{len(turns)} of {result.total} turns, from offset {result.offset}]")
        return _joined([*head, *_warnings(result.warnings), *turns])
    lines = [_session(session) for session in result.sessions]
    shown = (
        f"{len(lines)} of {result.total} sessions from {result.offset}" if lines else f"0 of {result.total} sessions"
    )
    return "\n".join([shown, *lines, *_warnings(result.warnings)])


def _session(session: SessionSummary) -> str:
    tags = f" [{', '.join(session.tags)}]" if session.tags else ""
    line = (
        f"{session.id} · {session.backend} · {session.status} · {session.turn_count} turns · {session.last_used} · "
        f"{session.working_dir} · {session.title}{tags}"
    )
    return f"{line}\n  …{session.snippet}…" if session.snippet else line


def _session_edit(result: SessionEditResult) -> str:
    if result.error is not None:
        return failure(result.error)
    if result.deleted:
        return "Deleted."
    done = {"fork": "Forked", "tag": "Tagged", "untag": "Untagged", "rename": "Renamed"}.get(
        result.action, result.action
    )
    return f"{done}: {_session(result.session)}" if result.session else f"{done}."


def _runs(result: RunsResult) -> str:
    parts: list[str] = [failure(result.error)] if result.error is not None else []
    if result.runs is not None:
        lines = [_run(run) for run in result.runs]
        parts.append("\n".join([f"{len(lines)} of {result.total or 0} runs{_more(result)}", *lines]))
    if result.result is not None:
        parts.append(of(result.result))
    elif result.run is not None:
        parts.append(_run(result.run))
    if result.matches is not None:
        found = [f"{match.get('offset')}: {match.get('line', '')}" for match in result.matches]
        parts.append("\n".join([f"{len(found)} matching lines{_more(result)}", *found]))
    if result.text is not None:
        parts.append(result.text)
        end = "the end" if result.next_offset is None else f"next offset {result.next_offset}"
        parts.append(f"[from {result.offset or 0} of {result.total_chars or 0} characters; {end}]")
    return _joined([*parts, *_warnings(result.warnings)])


def _more(result: RunsResult) -> str:
    return f"; next offset {result.next_offset}" if result.next_offset is not None else ""


def _run(run: RunSummary) -> str:
    unread = "unread · " if run.unread else ""
    failed = f" ({run.error_code})" if run.error_code else ""
    taken = f"{_seconds(run.duration_ms)} · " if run.duration_ms is not None else ""
    backend = f"{run.backend} · " if run.backend else ""
    return f"{run.run_id} · {unread}{run.kind} · {run.status}{failed} · {backend}{taken}{run.created_at} · {run.title}"


def _cancel(result: CancelResult) -> str:
    if result.error is not None:
        return failure(result.error)
    return (
        f"{result.run_id} had already ended: {result.status}."
        if result.already_ended
        else f"{result.run_id}: {result.status}."
    )


def _backends(result: BackendsResult) -> str:
    if result.error is not None:
        return failure(result.error)
    return _joined([_backend(info, default=info.name == result.default_backend) for info in result.backends])


def _backend(info: BackendInfo, *, default: bool) -> str:
    state = "available" if info.available else "not available"
    if not info.enabled:
        state = "switched off"
    head = " · ".join(
        part
        for part in (info.name + (" (default)" if default else ""), state, info.version or "", f"login {info.login}")
        if part
    )
    rows = [
        ("models", [*info.models]),
        ("sandbox_mode", info.sandbox_modes),
        ("approval_mode", info.approval_modes),
        ("extra", info.extra_flags),
    ]
    lines = [f"  {name}: {', '.join(values)}" for name, values in rows if values]
    return "\n".join([head, *lines, *([f"  hint: {info.hint}"] if info.hint else [])])


def _warnings(warnings: Sequence[str]) -> list[str]:
    return [f"Warning: {warning}" for warning in warnings]


def _seconds(milliseconds: int | None) -> str:
    return f"{milliseconds / 1000:.1f}s" if milliseconds else ""


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part)


def is_failure(result: BaseModel) -> bool:
    """Whether a result says that what was asked did not happen."""
    if getattr(result, "error", None) is not None:
        return True
    if isinstance(result, PromptResult | ParallelResult | ChainResult | CompareResult):
        return result.status in ("failed", "cancelled", "interrupted")
    return False
