"""Who waits for a run that several processes share: the last one who leaves stops it, unless somebody knows its id.

Each who waits holds a shared lock on a file of the run. A run that is only lent has outlived its first client for the
sake of others; once one of them is told its id, it outlives all of them.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.files import locked
from clinvk.tools.app import App

IsLast = Callable[[], bool]


@contextmanager
def waiting_together(app: App, run_id: str) -> Generator[IsLast]:
    """Be one of those who wait; yields what tells, when leaving early, whether the run is to be stopped."""
    path = app.runs.path(run_id) / "waiting.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # nobody can know who waits: then the run goes on
        yield lambda: False
        return
    try:
        with suppress(ClinvkError):
            locked(lock, path, shared=True)  # whoever holds it whole is stopping the run
        yield lambda: _is_alone(lock, path) and app.runs.marked(run_id, "lent") and not app.runs.marked(run_id, "told")
    finally:
        os.close(lock)


def _is_alone(lock: int, path: Path) -> bool:
    """Whether nobody else waits; whether or not, the lock is not shared any more, so that one of two finds it so."""
    with suppress(ClinvkError):
        return locked(lock, path)
    return False


def tell(app: App, run_id: str) -> None:
    """The id is given to a caller: from now on the run does not depend on who waits."""
    if app.runs.marked(run_id, "lent"):
        with suppress(ClinvkError):
            app.runs.mark(run_id, "told")
