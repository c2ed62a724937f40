"""How long a caller waits, and what becomes of the run when it does not."""

from collections.abc import Callable
from typing import TypeVar

import anyio
from pydantic import BaseModel

from clinvk.executor.live import LiveRun
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.cut import cut
from clinvk.tools.heirs import heir_argv

STOP_SECS = 20.0  # grace, sweep and saving, on a busy machine; the run ends by itself after that

Result = TypeVar("Result", bound=BaseModel)


async def wait_for(
    app: App, live: LiveRun, kind: type[Result], wait_secs: float | None, caller: Caller, running: Callable[[], Result]
) -> Result:
    """The run's result, or `running()` when it takes longer than `wait_secs` (default: mcp.wait_secs).

    Who answers `running` has given the run's id away: from then on the run outlives its client and this process. When
    the caller is cancelled first, and nobody else waits, the run is cancelled with it.
    """
    patience = app.config.mcp.wait_secs if wait_secs is None else wait_secs
    live.waiters += 1
    if caller.listener is not None:
        live.listeners.add(caller.listener)
    try:
        with anyio.move_on_after(patience):
            await live.done.wait()
    except anyio.get_cancelled_exc_class():
        if live.waiters == 1 and not live.handed:
            live.cancel()
            with anyio.move_on_after(STOP_SECS, shield=True):
                await live.done.wait()
        raise
    finally:
        live.waiters -= 1
        if caller.listener is not None:
            live.listeners.discard(caller.listener)
    if not live.done.is_set():
        app.executor.hand_out(live, heir_argv(app, live.record.id))
        answer = running()
    else:
        app.runs.mark(live.record.id, "read")
        assert isinstance(live.result, kind)
        answer = live.result.model_copy(deep=True)
    cut(answer, app.config.output.max_chars)
    return answer
