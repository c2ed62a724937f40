"""A run that this process drives: what it is doing, who waits for it, and how to stop it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

import anyio
from pydantic import BaseModel

from clinvk.errors import Failure
from clinvk.events import Event, RunStarted, TextDelta
from clinvk.executor.questions import Question
from clinvk.executor.runs import RunRecord

NEWEST_CHARS = 400

Listener = Callable[[str, str, Event], None]  # run id, backend, event; must not block


class Process(Protocol):
    """What a live run needs of its command."""

    def cancel(self) -> None:
        """Stop the command and all that it started."""
        ...

    def excuse(self) -> None:
        """Do not count the silence so far as a stall."""
        ...

    def detach(self) -> None:
        """Let the command outlive this process."""
        ...


class LiveRun:
    """One run from its admission to its result.

    `done` is set once `result` is there and saved (or, when this process stops, left to an heir).
    `stage` is queued, starting, running or ended.
    """

    def __init__(self, record: RunRecord, lock: int) -> None:
        self.record = record
        self.lock = lock
        self.stage = "queued"
        self.done = anyio.Event()
        self.driving = anyio.CancelScope()  # cancelled when somebody else is to drive the run on
        self.result: BaseModel | None = None
        self.newest_text = ""
        self.listeners: set[Listener] = set()
        self.children: list[LiveRun] = []
        self.questions: dict[str, Question] = {}
        self.waiters = 0
        self.handed = False
        self.cancelled = False
        self.why: Failure | None = None  # it was cancelled; None where somebody wished so
        self._process: Process | None = None
        self._queue: anyio.CancelScope | None = None

    def emit(self, event: Event) -> None:
        """Show an event to everybody who listens."""
        if isinstance(event, TextDelta):
            self.newest_text = (self.newest_text + event.text[-NEWEST_CHARS:])[-NEWEST_CHARS:]
        self.relay(self.record.id, self.record.backend, event)

    @contextmanager
    def heard_by(self, listener: Listener | None) -> Generator[None]:
        """Events go to `listener` for the time of the scope; who comes late is told first what has begun."""
        if listener is None:
            yield
            return
        for run in (self, *self.children):
            if run.stage == "running" and run.record.backend:
                listener(run.record.id, run.record.backend, RunStarted(run.record.id, run.record.backend))
        self.listeners.add(listener)
        try:
            yield
        finally:
            self.listeners.discard(listener)

    def relay(self, run_id: str, backend: str, event: Event) -> None:
        """Pass on an event of this run or of a child."""
        for listener in tuple(self.listeners):
            listener(run_id, backend, event)

    def queued(self, scope: anyio.CancelScope) -> None:
        """The run waits inside `scope`; cancelling the run ends the wait."""
        self._queue = scope
        if self.cancelled:
            scope.cancel()

    def started(self, process: Process) -> None:
        """The command runs; what was asked of the run meanwhile holds for it too."""
        self._queue = None
        self._process = process
        self.stage = "running"
        if self.cancelled:
            process.cancel()
        elif self.handed:
            process.detach()

    def excuse(self) -> None:
        """The run is silent because a person is being asked."""
        if self._process is not None:
            self._process.excuse()

    def cancel(self, why: Failure | None = None) -> None:
        """Stop the run and its children; its result follows, with what was there of the output.

        `why` becomes its error, where it was not the caller's wish.
        """
        if self.cancelled or self.done.is_set():
            return
        self.cancelled, self.why = True, why
        for child in self.children:
            child.cancel(why)
        if self._process is not None:
            self._process.cancel()
        elif self._queue is not None:
            self._queue.cancel()

    def detach(self) -> None:
        """Let the run, and its children, outlive this process."""
        self.handed = True
        for child in self.children:
            child.detach()
        if self._process is not None:
            self._process.detach()

    def adopt_child(self, child: "LiveRun") -> None:
        """A child run began; it shares the fate of this one."""
        self.children.append(child)
        child.listeners.add(self.relay)
        if self.cancelled:
            child.cancel(self.why)
        if self.handed:
            child.detach()


class Watcher(Protocol):
    """Sees every run of this process; must not block and must not raise."""

    def began(self, live: LiveRun) -> None:
        """A run was recorded and waits for its turn."""
        ...

    def ended(self, live: LiveRun) -> None:
        """A run ended, or was left to an heir; then it has no `result`."""
        ...
