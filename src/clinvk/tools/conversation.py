"""Keeps a finished turn in its session."""

from dataclasses import asdict
from datetime import UTC, datetime

from clinvk.executor.conclude import Conclusion
from clinvk.executor.plan import Plan
from clinvk.executor.process import started_at
from clinvk.executor.runs import RunStore
from clinvk.sessions.model import Session, TurnError, TurnRecord, TurnUpdate, first_line, timestamp
from clinvk.sessions.store import SessionStore
from clinvk.tools.app import App
from clinvk.tools.budget import Ledger


def _update(plan: Plan, conclusion: Conclusion) -> TurnUpdate:
    """What the turn changes of the session's head.

    Nothing when a handover failed before a conversation began, or when another conversation answered than was asked:
    the next turn would go on in that one, and nobody would notice.
    """
    native_id, resumed = conclusion.outcome.backend_session_id, plan.turn.resume_id
    if resumed is not None and native_id not in (None, resumed):
        return {}
    handover = resumed is None and not plan.new_session
    if handover and native_id is None and conclusion.result.status != "completed":
        return {}
    update: TurnUpdate = {
        "backend": plan.backend.NAME,
        "model": conclusion.result.model,
        "options": dict(plan.session_options),
    }
    if conclusion.outcome.native_usage is not None:
        update["native"] = {"usage": asdict(conclusion.outcome.native_usage)}
    if native_id is not None or handover:
        update["backend_session_id"] = native_id
    return update


def _head(plan: Plan, conclusion: Conclusion, started_at: str | None) -> Session:
    return Session(
        id=plan.session_id or "",
        backend=plan.backend.NAME,
        backend_session_id=conclusion.outcome.backend_session_id,
        created_at=started_at or timestamp(),
        working_dir=str(plan.turn.workdir),
        model=conclusion.result.model,
        title=first_line(plan.prompt),
        initial_prompt=plan.prompt[:2000],
        tags=list(plan.tags),
        options=dict(plan.session_options),
        metadata=dict(plan.metadata),
    )


class Keeping:
    """Saves turns and what they cost; doing it again for the same run changes nothing."""

    def __init__(self, sessions: SessionStore, runs: RunStore, ledger: Ledger) -> None:
        self._sessions = sessions
        self._runs = runs
        self._ledger = ledger

    def __call__(self, plan: Plan, conclusion: Conclusion) -> str | None:
        """Append the turn, founding the session if it is its first; the session's id, None when none is kept.

        A first turn that failed before the backend began a conversation leaves no session.
        """
        native_id = conclusion.outcome.backend_session_id
        result = conclusion.result
        if result.cost_usd:
            self._ledger.add(plan.run_id, result.cost_usd)
        if plan.session_id is None:
            return None
        update = _update(plan, conclusion)
        if plan.metadata and not plan.new_session:
            update["metadata"] = dict(plan.metadata)
        if plan.tags and not plan.new_session:
            update["tags"] = list(plan.tags)
        turn = self._turn(plan, conclusion)
        if not plan.new_session or self._sessions.exists(plan.session_id):
            self._sessions.append_turn(plan.session_id, turn, update)
        elif result.status == "completed" or native_id is not None or result.output:
            self._sessions.found(_head(plan, conclusion, turn.started_at), turn, update)
        else:
            return None
        return plan.session_id

    def _turn(self, plan: Plan, conclusion: Conclusion) -> TurnRecord:
        result = conclusion.result
        error = result.error
        return TurnRecord(
            run_id=plan.run_id,
            prompt=plan.prompt,
            output=result.output,
            backend=plan.backend.NAME,
            model=result.model,
            status=result.status,
            usage=result.token_usage,
            cost_usd=result.cost_usd,
            error=None if error is None else TurnError(code=error.code, message=error.message),
            started_at=self._started(plan.run_id),
        )

    def _started(self, run_id: str) -> str | None:
        moment = started_at(self._runs.path(run_id))
        return None if moment is None else timestamp(datetime.fromtimestamp(moment, UTC))


def keeping(app: App) -> Keeping:
    """What saves the turns of this process's runs."""
    return Keeping(app.sessions, app.runs, app.ledger)
