"""How long a caller waits, and what becomes of the run when it does not."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from functools import partial
from typing import TypeVar

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.live import Listener, LiveRun
from clinvk.executor.process import stop
from clinvk.response import PromptResult
from clinvk.tools.app import App
from clinvk.tools.asking import done, heeding
from clinvk.tools.attach import live_twin, recorded_twin
from clinvk.tools.caller import Caller, QuestionPending
from clinvk.tools.company import IsLast, tell, waiting_together
from clinvk.tools.cut import cut
from clinvk.tools.heirs import heir_argv
from clinvk.tools.overhearing import Overhearing
from clinvk.tools.settle import RESULTS, current, settled
from clinvk.tools.settle import Result as Answer

STOP_SECS = 20.0  # grace, sweep and saving, on a busy machine; the run ends by itself after that
HANDING_SECS = 2.0  # for the driver of a run to hand it out to another process; it looks every 0.2 s
LOOK_SECS = 0.1  # how often a run that another process drives is looked at

Result = TypeVar("Result", bound=Answer)


async def answered(
    app: App, kind: type[Result], caller: Caller, wait: tuple[float | None, bool, str], start: Callable[[], LiveRun]
) -> Result:
    """The result of a request: of the run that is there for it already, or of one that `start` begins.

    `wait` is how long the caller waits (None: mcp.wait_secs), whether it wants a fresh run, and the fingerprint of its
    request.
    """
    wait_secs, fresh, mark = wait
    until = anyio.current_time() + (app.config.mcp.wait_secs if wait_secs is None else wait_secs)
    result: Result | None = None
    is_new = False
    while result is None:
        run, is_new = await _run_of(app, fresh, mark, start)
        patience = max(0.0, until - anyio.current_time())
        if isinstance(run, LiveRun):
            result = await _here(app, run, kind, patience, caller)
        else:
            result = await _joined(app, run, kind, patience, caller)
    if not is_new:
        result.warnings.append(
            f"the same request was made before: this is its run {result.run_id}; fresh=true starts another"
        )
    cut(result, app.config.output.max_chars)
    return result


async def _run_of(app: App, fresh: bool, mark: str, start: Callable[[], LiveRun]) -> tuple[LiveRun | str, bool]:
    """The run that is there for a request, elsewhere (its id) or here, else a new one; and whether it is new."""
    async with app.requests.claimed(mark):
        twin = None if fresh else live_twin(app, mark) or recorded_twin(app, mark)
        if twin is not None:
            return twin, False
        live = start()
        app.requests.note(mark, live.record.id)
        return live, True
    raise AssertionError("unreachable")  # for type checkers: a scope might swallow an exception


async def _here(app: App, live: LiveRun, kind: type[Result], patience: float, caller: Caller) -> Result:
    """Wait for a run of this process.

    Who is told `running` is given the run's id: from then on the run outlives its client and this process. When the
    caller is cancelled first, and nobody else waits, here or elsewhere, the run is cancelled with it.
    """
    live.waiters += 1
    try:
        with _shared(app, live) as is_last:
            try:
                with live.heard_by(caller.listener), anyio.move_on_after(patience):
                    await done(live, caller)
            except anyio.get_cancelled_exc_class():
                if is_last() if live.handed else live.waiters == 1:
                    with suppress(ClinvkError):  # so that nobody joins it any more
                        app.runs.mark(live.record.id, "cancel")
                    live.cancel()
                    if live.handed:  # its driving may have been cancelled with this call, and its heir has yet to begin
                        for member in (live, *live.children):
                            stop(app.runs.path(member.record.id))
                    with anyio.move_on_after(STOP_SECS, shield=True):
                        await live.done.wait()
                raise
    except QuestionPending:
        _hand_out(app, live)
        raise
    finally:
        live.waiters -= 1
    if live.done.is_set():
        app.runs.mark_read(live.record.id)
        assert isinstance(live.result, kind)
        return _own(live.result)
    _hand_out(app, live)
    return _read(app, live.record.id, kind)


@contextmanager
def _shared(app: App, live: LiveRun) -> Generator[IsLast]:
    """Meanwhile the run is lent as soon as another process waits for it too; yields whether the last one leaves."""
    run_id = live.record.id
    with ExitStack() as stack:
        together: list[IsLast] = []

        def lend() -> None:
            together.append(stack.enter_context(waiting_together(app, run_id)))  # before others may leave it to us
            if not live.handed:
                with suppress(ClinvkError):
                    app.runs.mark(run_id, "lent")
                app.executor.hand_out(live, heir_argv(app))

        if not live.handed:
            stack.enter_context(app.executor.marks.once_marked(run_id, "shared", lend))
        elif app.runs.marked(run_id, "lent"):
            lend()
        yield lambda: any(is_last() for is_last in together)


def _hand_out(app: App, live: LiveRun) -> None:
    """From now on the run outlives its client and this process."""
    app.executor.hand_out(live, heir_argv(app))
    tell(app, live.record.id)


def _own(result: Result) -> Result:
    """A copy that is the caller's to change: others, and the run's parent, have the same result."""
    if isinstance(result, PromptResult):  # nothing that is changed in place lies deeper
        return result.model_copy(update={"warnings": [*result.warnings]})
    return deepcopy(result)


async def rejoined(app: App, run_id: str, wait_secs: float | None, caller: Caller) -> Answer:
    """Wait again for a run whose call had to return before it was done (`QuestionPending`)."""
    patience = app.config.mcp.wait_secs if wait_secs is None else wait_secs
    kind = RESULTS[app.runs.record(run_id).kind]
    live = app.executor.live.get(run_id)
    if live is None:
        result = await _elsewhere(app, run_id, kind, patience, caller)
    else:
        result = await _here(app, live, kind, patience, caller)
    cut(result, app.config.output.max_chars)
    return result


async def _joined(app: App, run_id: str, kind: type[Result], patience: float, caller: Caller) -> Result | None:
    """Wait for a run that was begun elsewhere for the same request.

    Its driver is told, and hands it out; until it did, its first client may leave and the run be stopped with it:
    then there is none (None).
    """
    with waiting_together(app, run_id) as is_last:
        try:
            if _is_shareable(app, run_id):
                app.runs.mark(run_id, "shared")
                with anyio.move_on_after(HANDING_SECS):
                    while _is_shareable(app, run_id):  # noqa: ASYNC110 - another process drives it
                        await anyio.sleep(LOOK_SECS)
                if _was_stopped(app, run_id):
                    return None
            return await _elsewhere(app, run_id, kind, patience, caller)
        except anyio.get_cancelled_exc_class():
            if is_last():
                with anyio.move_on_after(STOP_SECS, shield=True), suppress(ClinvkError):
                    await stopped_elsewhere(app, run_id)
            raise


def _was_stopped(app: App, run_id: str) -> bool:
    return settled(app, run_id).status in ("cancelled", "interrupted") and not app.runs.marked(run_id, "handed")


async def stopped_elsewhere(app: App, run_id: str) -> None:
    """Stop a run that another process drives; asked again until it has ended, because it may be about to start."""
    while settled(app, run_id).status == "running":
        for member in (run_id, *app.runs.children(run_id)):
            try:
                app.runs.mark(member, "cancel")
            except ClinvkError:
                if not stop(app.runs.path(member)):
                    raise
            else:
                stop(app.runs.path(member))
        await anyio.sleep(LOOK_SECS)


def _is_shareable(app: App, run_id: str) -> bool:
    return settled(app, run_id).status == "running" and not app.runs.marked(run_id, "handed")


async def _elsewhere(app: App, run_id: str, kind: type[Result], patience: float, caller: Caller) -> Result:
    """Wait for a run that another process drives, or has driven."""
    try:
        with anyio.move_on_after(patience):
            await heeding(app, run_id, caller, partial(ended, app, run_id, caller.listener))
    except QuestionPending:
        tell(app, run_id)
        raise
    result = _read(app, run_id, kind)
    if result.status == "running":
        tell(app, run_id)
    else:
        app.runs.mark_read(run_id)
    return result


async def ended(app: App, run_id: str, listener: Listener | None = None) -> None:
    """Wait until a run has ended that another process drives; what it does meanwhile is told to `listener`."""
    overhearing = Overhearing(app, run_id, listener) if listener is not None else None
    while True:
        is_running = settled(app, run_id).status == "running"
        if overhearing is not None:
            overhearing.listen()
        if not is_running:
            return
        await anyio.sleep(LOOK_SECS)


@contextmanager
def known(app: App, run_id: str) -> Generator[None]:
    """Meanwhile a caller who knows the run by its id is one of those who wait for it, or for the whole it is part of.

    Where it has not ended when he leaves, or nobody else is left, it goes on: he can come back for it. So he will where
    he has a question to answer first.
    """
    if settled(app, run_id).status != "running":
        yield
        return
    whole = app.runs.record(run_id).parent_id or run_id
    is_to_stay = False
    with _counted(app, whole) as is_last:
        try:
            yield
            is_to_stay = settled(app, run_id).status == "running"
        except QuestionPending:
            is_to_stay = True
            raise
        finally:
            if is_to_stay or is_last():
                with suppress(ClinvkError):
                    _keep(app, whole)


@contextmanager
def _counted(app: App, run_id: str) -> Generator[IsLast]:
    live = app.executor.live.get(run_id)
    if live is not None:
        live.waiters += 1
        try:
            with _shared(app, live) as is_last:
                yield lambda: is_last() if live.handed else live.waiters == 1
        finally:
            live.waiters -= 1
        return
    with waiting_together(app, run_id) as is_last:
        if _is_shareable(app, run_id):
            with suppress(ClinvkError):
                app.runs.mark(run_id, "shared")  # its driver hands it out; until then it may end with its client
        yield is_last


def _keep(app: App, run_id: str) -> None:
    live = app.executor.live.get(run_id)
    if live is not None:
        _hand_out(app, live)
    elif settled(app, run_id).status == "running":
        if _is_shareable(app, run_id):  # its driver is about to lend it
            app.runs.mark(run_id, "told")
        tell(app, run_id)


def _read(app: App, run_id: str, kind: type[Result]) -> Result:
    result = current(app, run_id)
    assert isinstance(result, kind)
    return result
