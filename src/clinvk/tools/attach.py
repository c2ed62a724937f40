"""No double work: the same request of the same client finds the run that it began before.

In this process any such run that is still going on; on disk those whose id was handed out: they may be driven by
another process, or have ended without anybody fetching the result. A run of several that was cut off is continued,
handed out or not.
"""

import time
from contextlib import suppress
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.executor.runs import RunState, RunStore
from clinvk.files import private_folder, write_whole
from clinvk.tools.app import App
from clinvk.tools.settle import settled

JUST_ENDED_SECS = 3600.0  # clients repeat what they gave up within minutes, or when they were started again


class Requests:
    """For the fingerprint of a request, the newest run of it; derived, may be deleted at any time."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "requests"

    def note(self, mark: str, run_id: str) -> None:
        """Remember the run of a request."""
        try:
            private_folder(self._folder)
            write_whole(self._folder / mark, run_id.encode())
        except ClinvkError:
            return  # without it the same request would be run twice, no more

    def find(self, mark: str) -> str | None:
        """The run of a request, None when none is known."""
        try:
            return (self._folder / mark).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None

    def forget(self, mark: str) -> None:
        """The request was answered."""
        with suppress(OSError):
            (self._folder / mark).unlink()

    def forget_removed(self, runs: RunStore) -> None:
        """Forget the requests whose runs are not kept any more."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                run_id = self.find(path.name)
                if run_id is not None and not runs.is_recorded(run_id):
                    self.forget(path.name)


def live_twin(app: App, mark: str) -> LiveRun | None:
    """The run of the same request that this process drives."""
    for live in app.executor.live.values():
        if live.record.fingerprint == mark and live.record.parent_id is None and not live.cancelled:
            return live
    return None


def recorded_twin(app: App, mark: str) -> str | None:
    """The handed-out run of the same request that still runs elsewhere, or has just ended with a result nobody fetched.

    One that was cancelled or cut off is none: who asks again wants it done. Nor is an old one: who asks again the next
    day asks about another day.
    """
    run_id = _noted(app, mark)
    if run_id is None:
        return None
    state = settled(app, run_id)
    if state.status == "running":  # one that is still waited for elsewhere would end with its client
        return run_id if app.runs.marked(run_id, "handed") else None
    if state.unread and state.status in ("completed", "failed") and _has_just_ended(state):
        return run_id
    if state.status != "interrupted":
        Requests(app.home).forget(mark)
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
    run_id = Requests(app.home).find(mark)
    if run_id is None or not app.runs.is_recorded(run_id):
        return None
    try:
        settled(app, run_id)
    except ClinvkError:
        return None  # removed or damaged meanwhile
    return run_id
