"""No double work: the same request of the same client finds the run that it began before.

Any such run that still goes on, whichever process drives it, or that has ended without anybody fetching the result.
A run of several that was cut off is continued.
"""

import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.executor.runs import RunState, RunStore
from clinvk.files import locked, private, private_folder, writing
from clinvk.tools.app import App
from clinvk.tools.settle import settled

JUST_ENDED_SECS = 3600.0  # clients repeat what they gave up within minutes, or when they were started again
CLAIMS = 64  # locks that all requests share
CLAIM_SECS = 2.0  # holders need milliseconds; only a stopped process takes this long, and is not waited for
CLAIM_POLL_SECS = 0.005


class Requests:
    """For the fingerprint of a request, the record of its newest run; derived, may be deleted at any time."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "requests"
        self._runs = home / "runs"
        self._locks = home / "locks"

    @asynccontextmanager
    async def claimed(self, mark: str) -> AsyncGenerator[None]:
        """Nobody else looks for the run of a request, or begins one, meanwhile; not to be held while waiting."""
        path = self._locks / f"request-{int(mark[:8], 16) % CLAIMS:02d}.lock"
        private_folder(self._locks)
        with writing(path):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not locked(lock):
                with anyio.move_on_after(CLAIM_SECS):
                    while not locked(lock):  # noqa: ASYNC110 - another process holds it
                        await anyio.sleep(CLAIM_POLL_SECS)
            yield
        finally:
            os.close(lock)

    def note(self, mark: str, run_id: str) -> None:
        """Remember the run of a request, which is claimed: nobody looks for it meanwhile."""
        path = self._folder / mark
        with suppress(ClinvkError, OSError):  # without it the same request would be run twice, no more
            private_folder(self._folder)
            self.forget(mark)
            try:
                os.link(self._runs / run_id / "request.json", path)  # a new file costs more
            except OSError:  # a file system without links
                with open(path, "x", encoding="ascii", opener=private) as note:  # never into a record that is linked
                    json.dump({"id": run_id}, note)

    def find(self, mark: str) -> str | None:
        """The run of a request, None when none is known."""
        try:
            return str(json.loads((self._folder / mark).read_bytes())["id"])
        except (OSError, ValueError, KeyError, TypeError):
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
                if run_id is None or not runs.is_recorded(run_id):
                    self.forget(path.name)


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
