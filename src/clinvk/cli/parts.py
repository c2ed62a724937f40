"""Shows the results of parallel, chain and compare, part by part, each answer in full."""

import sys

from clinvk.cli import listing, results, terminal
from clinvk.cli.call import Call
from clinvk.cli.views import whole
from clinvk.config.cascade import Loaded
from clinvk.response import (
    ChainResult,
    CompareResult,
    ParallelResult,
    PromptResult,
    StepResult,
    TaskResult,
    Verdict,
)
from clinvk.tools.app import App

Parts = ParallelResult | ChainResult | CompareResult


def say(call: Call, loaded: Loaded, app: App, result: Parts) -> None:
    """Every part under a heading, then how it went as a whole."""
    beside = isinstance(result, CompareResult) and _beside(call, loaded, app, result)
    for part in result.results:
        if beside:
            results.tell(call.console, part, name_of(part))
            continue
        call.console.text(f"--- {heading(part)}")
        for piece in whole(app, part):
            call.console.raw(piece)
        call.console.raw("", end=True)
        call.console.say("")
        results.tell(call.console, part, name_of(part))
    for warning in result.warnings:
        call.console.note(f"clinvk: warning: {warning}")
    results.count(call, loaded, result.results)
    match result:
        case ParallelResult():
            call.console.note(
                f"{result.completed} of {result.total_tasks} completed, {result.failed} failed, "
                f"{result.cancelled} cancelled, {results.seconds(result.total_duration_ms)}"
            )
        case ChainResult():
            call.console.note(
                f"{result.completed_steps} of {result.total_steps} steps completed, "
                f"{results.seconds(result.total_duration_ms)}"
            )
        case CompareResult():
            _compared(call, loaded, result)


def _beside(call: Call, loaded: Loaded, app: App, result: CompareResult) -> bool:
    """Put the answers side by side, if there is a terminal that is wide enough for them."""
    if not terminal.is_terminal(sys.stdout, call.environ):
        return False
    from clinvk.cli import tables

    screen = tables.screen(loaded, call.environ)
    if screen.width // max(1, len(result.results)) < tables.COLUMN_WIDTH:
        return False
    answers = [(heading(part), "".join(whole(app, part))) for part in result.results]
    screen.print(tables.side_by_side(answers))
    return True


def name_of(part: PromptResult) -> str:
    """How a part is called: `2 tests (codex)`."""
    number = part.task if isinstance(part, TaskResult) else part.step if isinstance(part, StepResult) else None
    own = (
        (part.name or part.id) if isinstance(part, TaskResult) else part.name if isinstance(part, StepResult) else None
    )
    words = [str(number) if number is not None else "", own or ""]
    told = " ".join(word for word in words if word)
    return f"{told} ({part.backend})" if told and part.backend else told or part.backend


def heading(part: PromptResult) -> str:
    """What is above an answer."""
    told = part.status if part.error is None else f"{part.status}: {part.error.code}"
    partial = "partial" if part.partial else ""
    facts = [name_of(part), part.model or "", told, partial, results.seconds(part.duration_ms) if part.run_id else ""]
    return " · ".join(fact for fact in facts if fact)


def _compared(call: Call, loaded: Loaded, result: CompareResult) -> None:
    if result.results:
        listing.say(call, loaded, listing.ranking(result))
    if result.verdict is not None:
        call.console.text(_verdict(result.verdict))


def _verdict(verdict: Verdict) -> str:
    if verdict.error is not None:
        said = f": {verdict.reasons}" if verdict.reasons else ""
        return f"verdict of {verdict.judge}: none ({verdict.error.message}){said}"
    return f"verdict of {verdict.judge}: {verdict.winner or 'no winner'}\n{verdict.reasons}"
