"""From a judged output to a result: a pure function of what is on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clinvk.backends.base import InteractiveReader, Reader
from clinvk.backends.permitting import DENIED, how_to_allow
from clinvk.errors import Failure
from clinvk.events import Ending, Outcome
from clinvk.executor.plan import Plan
from clinvk.executor.spool import KEPT_CHARS, Answer
from clinvk.response import PromptResult, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The result, with what only the session needs to know."""

    result: PromptResult
    outcome: Outcome
    ending: Ending

    @property
    def session_lost(self) -> bool:
        """Whether the backend does not have the conversation any more, and nothing was done."""
        failure = self.outcome.failure
        return failure is not None and failure.code == "session_lost" and not self.result.output

    def because(self, why: Failure) -> "Conclusion":
        """The same of a run that was cancelled for a reason of its own; any other stays what it is."""
        if self.result.status != "cancelled":
            return self
        self.result.error = replace(why, backend=self.result.backend)
        return replace(self, outcome=replace(self.outcome, failure=self.result.error))


def conclude(plan: Plan, reader: Reader, answer: Answer, ending: Ending) -> Conclusion:
    """Judge one run. The session id is filled in by whoever saves the turn."""
    outcome = reader.outcome(ending)
    if outcome.text is not None and outcome.text != answer.head:
        answer.replace(outcome.text)
    answer.close()
    status = _status(outcome)
    result = PromptResult(
        run_id=plan.run_id,
        status=status,
        backend=plan.backend.NAME,
        model=outcome.model or plan.turn.model,
        output=answer.head,
        output_truncated=answer.chars > KEPT_CHARS,
        output_chars=answer.chars,
        structured_output=outcome.structured_output,
        partial=status != "completed" and answer.chars > 0,
        exit_code=ending.exit_code,
        duration_ms=ending.duration_ms,
        token_usage=outcome.usage,
        cost_usd=outcome.cost_usd,
        stop_reason=outcome.stop_reason,
        warnings=[*plan.warnings, *_advised(plan, reader, outcome.warnings)],
        error=outcome.failure,
    )
    return Conclusion(result=result, outcome=outcome, ending=ending)


def _advised(plan: Plan, reader: Reader, warnings: Sequence[str]) -> list[str]:
    """The warnings, the last denial with how to allow what was denied; unless it was a person who denied."""
    advised = list(warnings)
    denials = [number for number, warning in enumerate(advised) if warning.startswith(DENIED)]
    if denials and not isinstance(reader, InteractiveReader):
        advice = how_to_allow(plan.turn, plan.backend.CAPABILITIES, plan.backend.NAME)
        advised[denials[-1]] += f"\n{advice}" if advice else ""
    return advised


def _status(outcome: Outcome) -> RunStatus:
    match outcome.failure:
        case None:
            return "completed"
        case failure if failure.code in ("cancelled", "interrupted"):
            return "cancelled" if failure.code == "cancelled" else "interrupted"
        case _:
            return "failed"
