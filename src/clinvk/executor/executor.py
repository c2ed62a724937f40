"""The one place where runs are driven: admitted, started, followed, stopped, recorded.

It asks a backend for a command and for the meaning of its output, and knows none by name.
"""

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path

import anyio
import anyio.abc
from pydantic import BaseModel

from clinvk.errors import ClinvkError, Failure
from clinvk.events import Ending, RunFinished, RunStarted
from clinvk.executor.admission import Admission, Start
from clinvk.executor.conclude import Conclusion, conclude
from clinvk.executor.conversing import conversing
from clinvk.executor.live import LiveRun, Watcher
from clinvk.executor.marks import MarkWatch
from clinvk.executor.plan import Plan, Prepared, dump
from clinvk.executor.process import Adopted, Keeper, Launch
from clinvk.executor.proctree import kill_strays
from clinvk.executor.reading import Reading, follow
from clinvk.executor.runs import RunRecord, RunStore
from clinvk.executor.spool import chunks
from clinvk.executor.stdin import Stdin, open_stdin
from clinvk.files import write_unread, write_whole, writing

CLOSE_SECS = 5.0  # for the runs that are still waited on to end, when the server stops: grace + sweep + saving

Work = Callable[[LiveRun], Awaitable[BaseModel]]
OnFailure = Callable[[Failure], BaseModel]
Saver = Callable[[Plan, Conclusion], str | None]


class Executor:
    """Drives the runs of one process."""

    def __init__(self, runs: RunStore, keeper: Keeper, admission: Admission) -> None:
        self.runs = runs
        self.keeper = keeper
        self.admission = admission
        self.marks = MarkWatch(runs)
        self.live: dict[str, LiveRun] = {}
        self.watchers: list[Watcher] = []
        self.closing = False
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """The time in which runs can be driven; at its end those that somebody still waits for are stopped."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.keeper.kept_alive)
            tasks.start_soon(self.marks.look)
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await self.close()
                tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Leave handed-out runs to their heir; stop all others, and wait until their results are saved."""
        self.closing = True
        attached = [live for live in self.live.values() if not live.handed]
        for live in self.live.values():
            if live.handed:
                live.driving.cancel()
        for live in attached:
            live.cancel()
        with anyio.move_on_after(CLOSE_SECS):
            for live in attached:
                await live.done.wait()

    def host(self, record: RunRecord, work: Work, on_failure: OnFailure) -> LiveRun:
        """Record a run and drive it in the background; its result is saved whoever waits for it.

        Raises: ClinvkError(internal) when the run cannot be recorded; then nothing was started.
        """
        if self.closing or self._tasks is None:
            raise ClinvkError("overloaded", "clinvk is shutting down", hint="try again when it is back")
        live = LiveRun(record, self.runs.create(record))
        self.live[record.id] = live
        self._tasks.start_soon(self._drive, live, work, on_failure)
        return live

    def adopt(self, record: RunRecord, lock: int, work: Work, on_failure: OnFailure) -> LiveRun:
        """Drive on a run that another process began; `lock` is its lock, held."""
        if self._tasks is None:
            raise ClinvkError("overloaded", "clinvk is shutting down", hint="try again when it is back")
        live = LiveRun(record, lock)
        live.handed = True
        if self.runs.marked(record.id, "cancel"):  # by who ended, or was killed, before it was stopped
            live.cancel()
        self.live[record.id] = live
        self._tasks.start_soon(self._drive, live, work, on_failure)
        return live

    async def _drive(self, live: LiveRun, work: Work, on_failure: OnFailure) -> None:
        run_id = live.record.id
        for watcher in self.watchers:
            watcher.began(live)
        try:
            with live.driving:
                live.result = await work(live)
        except ClinvkError as error:
            live.result = self._failed(live, on_failure(error.failure))
        except Exception as error:  # noqa: BLE001 - a bug met by one run must not end the others
            sys.excepthook(type(error), error, error.__traceback__)
            failure = Failure(
                code="internal",
                message=f"{type(error).__name__}: {error}",
                hint="this is a bug in clinvk; the traceback is in its log",
            )
            live.result = self._failed(live, on_failure(failure))
        finally:
            live.stage = "ended"
            self.live.pop(run_id, None)
            for watcher in self.watchers:
                watcher.ended(live)
            if live.handed and live.record.parent_id is None and live.result is not None:
                with suppress(ClinvkError):
                    self.keeper.disown(run_id)
            os.close(live.lock)
            live.done.set()

    def _failed(self, live: LiveRun, result: BaseModel) -> BaseModel:
        try:
            self.runs.finish(live.record.id, result, sync=live.handed)
        except ClinvkError:  # what cannot be saved is still answered
            self.runs.give_up(live.record.id, "failed")
        return result

    def hand_out(self, live: LiveRun, argv: Sequence[str]) -> None:
        """The run's id is being given to a caller: from now on it outlives this process.

        `argv` starts the heir that drives it on.
        """
        if live.handed or live.done.is_set():
            return
        self.bequeath(live, argv)
        live.detach()
        with suppress(ClinvkError):  # last: other processes rely on it
            self.runs.mark(live.record.id, "handed")
            self.runs.secure(live.record.id)

    def bequeath(self, live: LiveRun, argv: Sequence[str]) -> None:
        """Have a run driven on by `argv` when this process is gone."""
        with suppress(ClinvkError):  # the keeper learns of it when it is back; the command goes on in any case
            self.keeper.set_heir(live.record.id, argv, self.runs.folder.parent / "heirs.log", live.lock)

    async def execute(self, prepared: Prepared, live: LiveRun, locks: Sequence[int], save: Saver) -> BaseModel:
        """Wait for a place, run the command, judge what came of it. The result is saved by `save` and here."""
        plan, explain = prepared.plan, prepared.explain
        async with AsyncExitStack() as stack:
            start: Start | None = None
            with anyio.CancelScope() as queue:
                live.queued(queue)
                with self._heeding_others(live):
                    await stack.enter_async_context(self.admission.place(plan.backend.NAME))
                start = await stack.enter_async_context(
                    self.admission.start(plan.backend.NAME, refreshable=prepared.refreshable_login)
                )
            if start is None or live.cancelled or self.runs.marked(plan.run_id, "cancel"):
                reading = self._reading(plan, live)
                return self._finish(plan, live, reading, _judged(plan, reading, _never_started(), live), save)
            reading, ending = await self._run(prepared, live, locks, start)
            conclusion = _judged(plan, reading, ending, live)
            if conclusion.session_lost and prepared.without_session is not None and not live.cancelled:
                reading.close()
                prepared = prepared.without_session()
                plan = prepared.plan
                self.runs.change_plan(plan.run_id, dump(plan))
                reading, ending = await self._run(prepared, live, locks, start)
                conclusion = _judged(plan, reading, ending, live)
            if explain is not None and conclusion.result.error is not None:
                with reading.open_unless_it_fails():
                    conclusion.result.error = await explain(conclusion.result.error)
            return self._finish(plan, live, reading, conclusion, save)

    def _heeding_others(self, live: LiveRun) -> AbstractContextManager[None]:
        """While the run waits for a place, another process can only leave a mark to cancel it."""
        if not self.admission.is_full(live.record.backend):
            return nullcontext()
        return self.marks.once_marked(live.record.id, "cancel", live.cancel)

    async def _run(
        self, prepared: Prepared, live: LiveRun, locks: Sequence[int], start: Start
    ) -> tuple[Reading, Ending]:
        """Start the command and read its output to the end."""
        live.stage = "starting"
        reading = self._reading(prepared.plan, live)
        with reading.open_unless_it_fails(), ExitStack() as stack:
            self._write_files(prepared)
            reading.take([RunStarted(prepared.plan.run_id, prepared.plan.backend.NAME)])
            stdin = _stdin(prepared, reading.folder / "stdin", stack)
            kept = [live.lock, *locks] if stdin is None else [live.lock, *locks, stdin.reader]
            async with self.keeper.running(_launch(prepared, live, reading.folder), kept) as process:
                live.started(process)
                start.begun.set()
                if stdin is None:
                    return reading, await follow(process, reading, start)
                async with conversing(stdin, reading, live):
                    return reading, await follow(process, reading, start)

    async def resume(self, plan: Plan, live: LiveRun, save: Saver) -> BaseModel:
        """Follow a command that another process started, and judge it."""
        reading = self._reading(plan, live)
        with reading.open_unless_it_fails():
            reading.take([RunStarted(plan.run_id, plan.backend.NAME)])
            process = Adopted(self.runs.path(plan.run_id))
            live.started(process)
            ending = await follow(process, reading, Start())
        return self._finish(plan, live, reading, _judged(plan, reading, ending, live), save)

    def settle(self, plan: Plan, ending: Ending, save: Saver) -> BaseModel:
        """Judge a run that ended while nobody watched, from what is on disk."""
        folder = self.runs.path(plan.run_id)
        reading = self._reading(plan, None)
        reading.take([RunStarted(plan.run_id, plan.backend.NAME)])
        with suppress(FileNotFoundError), (folder / "stdout").open("rb") as stdout:
            for chunk in chunks(stdout):
                reading.feed(chunk)
        reading.end()
        return self._finish(plan, None, reading, _judged(plan, reading, ending), save)

    def _reading(self, plan: Plan, live: LiveRun | None) -> Reading:
        return Reading(self.runs.path(plan.run_id), plan.backend.reader(plan.turn), live)

    def _write_files(self, prepared: Prepared) -> None:
        """Write the files that the command reads, and make the folder for them where it needs one."""
        command, scratch = prepared.command, prepared.plan.turn.scratch
        if not command.files and str(scratch) not in command.env.values():
            return
        with writing(scratch):
            scratch.mkdir(mode=0o700, exist_ok=True)
        for path, data in command.files.items():
            write_whole(path, data)

    def _finish(
        self, plan: Plan, live: LiveRun | None, reading: Reading, conclusion: Conclusion, save: Saver
    ) -> BaseModel:
        if conclusion.ending.reason == "interrupted":
            kill_strays(plan.run_id)
        result = conclusion.result
        result.warnings += reading.warnings()
        try:
            result.session_id = save(plan, conclusion)
            self.runs.finish(plan.run_id, result, sync=live is None or live.handed)
        except ClinvkError as error:
            result.warnings.append(f"the result could not be saved: {error.failure.message}")
            self.runs.give_up(plan.run_id, result.status)
        reading.take([RunFinished(plan.run_id, result.status, result.error)])
        reading.close()
        return result


def _judged(plan: Plan, reading: Reading, ending: Ending, live: LiveRun | None = None) -> Conclusion:
    conclusion = conclude(plan, reading.reader, reading.answer, ending)
    return conclusion.because(live.why) if live is not None and live.why is not None else conclusion


def _never_started() -> Ending:
    return Ending(reason="cancelled", message="cancelled before it was started")


def _stdin(prepared: Prepared, path: Path, stack: ExitStack) -> Stdin | None:
    """What the command reads: the file `path`, or for an interactive command a pipe that stays open."""
    if prepared.command.interactive:
        return stack.enter_context(open_stdin(path, prepared.command.stdin))
    write_unread(path, prepared.command.stdin)
    return None


def _launch(prepared: Prepared, live: LiveRun, folder: Path) -> Launch:
    return Launch(
        folder=folder,
        argv=prepared.command.argv,
        env={**dict.fromkeys(prepared.command.blanked, ""), **prepared.env, **prepared.command.env},
        cwd=prepared.command.cwd,
        stdin=folder / "stdin",
        limits=prepared.limits,
        detached=live.handed,
    )
