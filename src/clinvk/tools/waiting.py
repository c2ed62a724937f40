"""How long a caller waits, and what becomes of the run when it does not."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import TypeVar

import anyio

from clinvk.executor.live import Listener, LiveRun
from clinvk.tools.app import App
from clinvk.tools.asking import done, heeding
from clinvk.tools.attach import Requests, live_twin, recorded_twin
from clinvk.tools.caller import Caller, QuestionPending
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
    requests = Requests(app.home)
    async with requests.claimed(mark):
        twin = None if fresh else live_twin(app, mark) or recorded_twin(app, mark)
        if twin is not None:
            return twin, False
        live = start()
        requests.note(mark, live.record.id)
        return live, True
    raise AssertionError("unreachable")  # for type checkers: a scope might swallow an exception


async def _here(app: App, live: LiveRun, kind: type[Result], patience: float, caller: Caller) -> Result:
    """Wait for a run of this process.

    Who is told `running` is given the run's id: from then on the run outlives its client and this process. When the
    caller is cancelled first, and nobody else waits, here or elsewhere, the run is cancelled with it.
    """
    live.waiters += 1
    try:
        with _shared(app, live), live.heard_by(caller.listener), anyio.move_on_after(patience):
            await done(live, caller)
    except QuestionPending:
        _hand_out(app, live)
        raise
    except anyio.get_cancelled_exc_class():
        if live.waiters == 1 and not live.handed:
            live.cancel()
            with anyio.move_on_after(STOP_SECS, shield=True):
                await live.done.wait()
        raise
    finally:
        live.waiters -= 1
    if live.done.is_set():
        app.runs.mark_read(live.record.id)
        assert isinstance(live.result, kind)
        return deepcopy(live.result)
    _hand_out(app, live)
    return _read(app, live.record.id, kind)


@contextmanager
def _shared(app: App, live: LiveRun) -> Generator[None]:
    """Meanwhile the run is handed out as soon as another process waits for it too."""
    if live.handed:
        yield
        return
    with app.executor.once_marked(live.record.id, "shared", lambda: _hand_out(app, live)):
        yield


def _hand_out(app: App, live: LiveRun) -> None:
    """From now on the run outlives its client and this process."""
    app.executor.hand_out(live, heir_argv(app))


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
    if _is_shareable(app, run_id):
        app.runs.mark(run_id, "shared")
        with anyio.move_on_after(HANDING_SECS):
            while _is_shareable(app, run_id):  # noqa: ASYNC110 - another process drives it
                await anyio.sleep(LOOK_SECS)
        if settled(app, run_id).status in ("cancelled", "interrupted") and not app.runs.marked(run_id, "handed"):
            return None
    return await _elsewhere(app, run_id, kind, patience, caller)


def _is_shareable(app: App, run_id: str) -> bool:
    return settled(app, run_id).status == "running" and not app.runs.marked(run_id, "handed")


async def _elsewhere(app: App, run_id: str, kind: type[Result], patience: float, caller: Caller) -> Result:
    """Wait for a run that another process drives, or has driven."""
    with anyio.move_on_after(patience):
        await heeding(app, run_id, caller, partial(ended, app, run_id, caller.listener))
    result = _read(app, run_id, kind)
    if result.status != "running":
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


def _read(app: App, run_id: str, kind: type[Result]) -> Result:
    result = current(app, run_id)
    assert isinstance(result, kind)
    return result
