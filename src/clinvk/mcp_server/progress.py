"""Progress of a call: events of its runs -> a line of news now and then, for the client that asked for it.

The first line goes out at once, further ones when there is news, never faster than `every`, and at least
every `heartbeat` seconds, because clients give up on calls that are silent. What was not told by then is told when the
call ends, before its result.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import assert_never

import anyio

from clinvk.events import (
    ApprovalAnswered,
    ApprovalAsked,
    Event,
    PermissionDenied,
    Reasoning,
    Retrying,
    RunFinished,
    RunStarted,
    SessionStarted,
    TextDelta,
    TextEnd,
    ToolFinished,
    ToolStarted,
    Warned,
)
from clinvk.executor.live import Listener

Report = Callable[[float, str], Awaitable[None]]  # seconds since the start, strictly increasing; message

_NEWEST_CHARS = 120
_TICK = 0.001


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two lines: at least `every`, at most `heartbeat`."""

    every: float = 0.25
    heartbeat: float = 5.0


class News:
    """The newest of what the runs of one call do, in one line."""

    def __init__(self, backend: str | None, total: int) -> None:
        self._backend = backend
        self._total = total
        self._finished = 0
        self._runs: dict[str, str] = {}
        self._speaker = ""
        self._text = ""
        self._newest = ""
        self._stage = "queued"
        self._began = anyio.current_time()
        self._last = -_TICK
        self._arrived = anyio.Event()

    def listen(self, run_id: str, backend: str, event: Event) -> None:
        """Take an event; a Listener."""
        if backend:
            self._backend = backend
        if run_id != self._speaker or not isinstance(event, TextDelta):
            self._text = ""
        self._speaker = run_id
        self._stage = "running"
        self._note(run_id, event)
        self._arrived.set()

    def _note(self, run_id: str, event: Event) -> None:  # noqa: C901  one case per kind of event
        match event:
            case RunStarted():
                self._runs[run_id] = event.backend
                self._newest = "started"
            case TextDelta():
                self._text = self._newest = (self._text + event.text)[-_NEWEST_CHARS * 2 :]
            case Reasoning():
                self._newest = f"thinking: {event.text}"
            case ToolStarted():
                self._newest = f"using {event.name}: {event.detail}" if event.detail else f"using {event.name}"
            case ApprovalAsked():
                self._newest = f"asks to use {event.tool}: {event.action}"
            case ApprovalAnswered():
                self._newest = "allowed" if event.allowed else "refused"
            case PermissionDenied():
                self._newest = f"refused: {event.tool} {event.action}"
            case Retrying():
                self._newest = _retrying(event)
            case Warned():
                self._newest = event.message
            case RunFinished():
                self._finished += self._runs.pop(run_id, "") != ""
                self._newest = event.status
            case SessionStarted() | ToolFinished() | TextEnd():
                pass
            case _:
                assert_never(event)

    def line(self, seconds: float) -> str:
        """The news as one line."""
        parts = [self._backend] if self._backend else []
        if self._total > 1:
            parts.append(f"{min(self._finished, self._total)} of {self._total} done")
        parts.append(f"{self._stage} {seconds:.0f}s")
        newest = " ".join(self._newest.split())
        if newest:
            parts.append(newest if len(newest) <= _NEWEST_CHARS else f"…{newest[-_NEWEST_CHARS:]}")
        return " · ".join(parts)

    async def tell(self, report: Report, pace: Pace) -> None:
        """Report until cancelled."""
        while True:
            await self._report(report)
            await anyio.sleep(pace.every)
            with anyio.move_on_after(max(0.0, pace.heartbeat - pace.every)):
                await self._arrived.wait()

    async def tell_rest(self, report: Report) -> None:
        """Report what arrived since the last line."""
        if self._arrived.is_set():
            await self._report(report)

    async def _report(self, report: Report) -> None:
        seconds = round(max(anyio.current_time() - self._began, self._last + _TICK), 3)
        self._arrived = anyio.Event()
        self._last = seconds
        await report(seconds, self.line(seconds))


def _retrying(event: Retrying) -> str:
    attempt = f" {event.attempt}" if event.attempt is not None else ""
    most = f"/{event.max_attempts}" if event.max_attempts is not None else ""
    return f"retrying{attempt}{most}: {event.reason}"


@asynccontextmanager
async def reported(report: Report, news: News, pace: Pace) -> AsyncGenerator[Listener]:
    """Within it, what the yielded listener hears is reported.

    The body must not raise: a task group would wrap what it raises.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(news.tell, report, pace)
        yield news.listen
        group.cancel_scope.cancel()
    await news.tell_rest(report)
