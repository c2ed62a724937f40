"""Carries out one operation for a terminal: events are shown as they come, a Ctrl-C stops what was started."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import anyio

from clinvk.cli import exits
from clinvk.cli.call import Call
from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.events import Event
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Ask, Caller

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST_WORDS_SECS = 2.0  # for a reader to take what there is, after the runs were stopped

Result = TypeVar("Result")
Shown = TypeVar("Shown", contravariant=True)


class View(Protocol[Shown]):
    """What is seen of an operation."""

    @property
    def broken(self) -> Exception | None:
        """Why nothing can be shown any more, as its reader has left; None while all is well."""
        ...

    @property
    def ask(self) -> Ask | None:
        """Puts an agent's question to the person at the terminal; None where nobody is there."""
        ...

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """An event of one of its runs; must not wait."""
        ...

    async def show(self, app: App, stop: Callable[[], None]) -> None:
        """Keep what is seen up to date, until cancelled; `stop` stops the runs."""
        ...

    async def finish(self, app: App, result: Shown) -> None:
        """Show the result, unless all of it was seen."""
        ...

    def leave(self) -> None:
        """Tidy up the screen."""
        ...


class _Stop:
    """Ends what goes on: first the runs, whose partial results are still shown; then, when asked again, everything."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self.app: App | None = None
        self.working = anyio.CancelScope()
        self.asked = False
        self.shared: list[str] = []  # runs that go on, as another process waits for them too

    def runs(self) -> None:
        """Stop the runs that this process waits for, or the wait where there is none."""
        every = [] if self.app is None else list(self.app.executor.live.values())
        lives = [run for run in every if not run.handed]
        for live in lives:
            live.cancel()
        if not lives:
            self.shared = [run.record.id for run in every if run.record.parent_id is None]
            self.working.cancel()

    async def on_signal(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Obey signals, until cancelled."""
        with anyio.open_signal_receiver(*STOPPING) as signals:
            task_status.started()
            async for _ in signals:
                if self.asked:
                    self._leave()
                    os._exit(exits.CANCELLED)  # its keeper ends what still runs
                self.asked = True
                self.runs()


def driven(
    call: Call, loaded: Loaded, operation: Callable[[App, Caller], Awaitable[Result]], view: View[Result]
) -> Result:
    """The operation's result, shown.

    Raises ClinvkError; KeyboardInterrupt when it was stopped and has no result, BrokenPipeError or UnwritableError
    when nobody takes it.
    """
    outcome = anyio.run(_driven, call, loaded, operation, view)
    if view.broken is not None:
        raise view.broken
    if isinstance(outcome, ClinvkError):
        raise outcome
    if outcome is None:
        raise KeyboardInterrupt
    return outcome


async def _driven(
    call: Call,
    loaded: Loaded,
    operation: Callable[[App, Caller], Awaitable[Result]],
    view: View[Result],
) -> Result | ClinvkError | None:
    stop = _Stop(view.leave)
    outcome: Result | ClinvkError | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(stop.on_signal)
        try:
            with stop.working:
                outcome = await _done(call, loaded, operation, view, stop)
        finally:
            view.leave()
            tasks.cancel_scope.cancel()
    for run_id in stop.shared:
        if stop.app is None or stop.app.runs.result(run_id) is not None or stop.app.runs.marked(run_id, "cancel"):
            continue  # nobody else waited any more
        call.console.note(
            f"clinvk: run {run_id} goes on, as another process waits for it; clinvk runs cancel {run_id} stops it"
        )
    return outcome


async def _done(
    call: Call,
    loaded: Loaded,
    operation: Callable[[App, Caller], Awaitable[Result]],
    view: View[Result],
    stop: _Stop,
) -> Result | ClinvkError:
    try:
        here = working_directory()
        async with opened(loaded, call.environ) as app, anyio.create_task_group() as tasks:
            stop.app = app
            tasks.start_soon(view.show, app, stop.runs)
            caller = Caller(client="cli", cwd=here, listener=view.hear, ask=view.ask)
            outcome = await _outcome(operation, app, caller)
            if not isinstance(outcome, ClinvkError):
                with anyio.move_on_after(LAST_WORDS_SECS if stop.asked else None):
                    await view.finish(app, outcome)
            tasks.cancel_scope.cancel()
            return outcome
    except ClinvkError as error:
        return error
    raise AssertionError("unreachable")  # for type checkers: a scope might swallow an exception


async def _outcome(
    operation: Callable[[App, Caller], Awaitable[Result]], app: App, caller: Caller
) -> Result | ClinvkError:
    """A refusal as a value: task groups would wrap it."""
    try:
        return await operation(app, caller)
    except ClinvkError as error:
        return error


def working_directory() -> Path:
    """Where the command was called. Raises ClinvkError when that was deleted meanwhile."""
    try:
        return Path.cwd()
    except OSError as error:
        raise ClinvkError(
            "invalid_request", f"the current folder cannot be used: {error.strerror}", hint="change to another folder"
        ) from error
