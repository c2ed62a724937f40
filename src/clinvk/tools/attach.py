"""No double work: the same request of the same client finds the run that it began before.

Any such run that still goes on, whichever process drives it, or that has ended without anybody fetching the result.
A run of several that was cut off is continued.
"""

import time

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.executor.runs import RunState
from clinvk.tools.app import App
from clinvk.tools.settle import settled

JUST_ENDED_SECS = 3600.0  # clients repeat what they gave up within minutes, or when they were started again


def live_twin(app: App, mark: str) -> LiveRun | None:
    """The run of the same request that this process drives."""
    for live in app.executor.live.values():
        if live.record.fingerprint == mark and live.record.parent_id is None and not live.cancelled:
            return live
    return None


def recorded_twin(app: App, mark: str) -> str | None:
    """The run of the same request that still runs elsewhere, or has just ended with a result nobody fetched.

    One that was cancelled or cut off is none: who asks again wants it done. Nor is an old one: who asks again the next
    day asks about another day.
    """
    run_id = _noted(app, mark)
    if run_id is None:
        return None
    state = settled(app, run_id)
    if state.status == "running":  # one that is driven here is being cancelled: it was no live twin
        return None if run_id in app.executor.live or app.runs.marked(run_id, "cancel") else run_id
    if state.unread and state.status in ("completed", "failed") and _has_just_ended(state):
        return run_id
    if state.status != "interrupted":
        app.requests.forget(mark)
    return None


def _has_just_ended(state: RunState) -> bool:
    result = state.result or {}
    lasted_ms = result.get("total_duration_ms", result.get("duration_ms")) or 0
    return time.time() < state.record.created_at + lasted_ms / 1000 + JUST_ENDED_SECS


def cut_off_twin(app: App, mark: str) -> str | None:
    """The run of the same request that was interrupted and can be continued."""
    run_id = _noted(app, mark)
    return run_id if run_id is not None and settled(app, run_id).status == "interrupted" else None


def _noted(app: App, mark: str) -> str | None:
    run_id = app.requests.find(mark)
    if run_id is None or not app.runs.is_recorded(run_id):
        return None
    try:
        settled(app, run_id)
    except ClinvkError:
        return None  # removed or damaged meanwhile
    return run_id
