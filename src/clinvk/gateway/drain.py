"""Stopping: from then on there is no new work, and who listens is told."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio

from clinvk.errors import ClinvkError, Failure
from clinvk.tools.app import App

SHUTTING_DOWN = Failure(
    code="overloaded", message="the server is shutting down", hint="try again when it is back", retryable=True
)
# The error of the runs that this stops: what their callers are told, and what stands in their records and the logs.
STOPPED = Failure(
    code="overloaded",
    message="it was stopped because the server is shutting down",
    hint="ask again when the server is back",
    retryable=True,
)


class Drain:
    """`closing` is set when the server was told to stop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.closing = anyio.Event()
        self._waits: set[anyio.CancelScope] = set()

    @contextmanager
    def interrupting(self, wait: anyio.CancelScope) -> Generator[None]:
        """Cancel a wait when the server is told to stop while it lasts."""
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)

    def check(self) -> None:
        """Raises ClinvkError(overloaded) once the server was told to stop."""
        if self.closing.is_set():
            raise ClinvkError("overloaded", SHUTTING_DOWN.message, hint=SHUTTING_DOWN.hint)

    def close(self) -> None:
        """Cancel the runs that are waited for, so that their callers still get what there is.

        Runs whose id was handed out go on, without this process.
        """
        self.closing.set()
        for wait in self._waits:
            wait.cancel()
        for live in tuple(self._app.executor.live.values()):
            if not live.handed:
                live.cancel(STOPPED)
