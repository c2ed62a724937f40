"""The events of a run as server-sent events, from the beginning or from where a client stopped reading.

The id of an event is its line number in the run's events.jsonl. Of a parallel, chain or compare run, whose children
have the events, it is one such number per child, in the order in which they began ("3.0.5"), and ends with `.end` in
the last one.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from itertools import islice
from typing import Any, cast

import anyio
import anyio.lowlevel
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clinvk.errors import ClinvkError
from clinvk.gateway.attended import Gone, attended
from clinvk.gateway.body import query_of
from clinvk.gateway.drain import SHUTTING_DOWN
from clinvk.gateway.feed import HEARTBEAT_SECS
from clinvk.gateway.service import Service, trail_of
from clinvk.gateway.stream import SSE, Sse, sse
from clinvk.tools import settle
from clinvk.tools.eventlog import EventLog

LOOK_SECS = 0.05  # how often the files are looked at: another process may drive the run
MOST_LINES = 200  # sent at once; others are served in between
ANEW_SECS = 2.0  # in which an heir has written the events anew that its driver had written
END = "end"


class EventsQuery(BaseModel, extra="forbid"):
    """What may be asked of the events of a run."""

    last_event_id: str = Field(
        default="", description="Only the events after this one; the header, which a browser sends again, comes first."
    )


class Replay:
    """ASGI response: the events of one run and of its children until the run has ended."""

    def __init__(self, service: Service, request: Request, run_id: str) -> None:
        """Raises ClinvkError(invalid_request) for an unknown parameter, or what is no id of an event."""
        self._service = service
        self._app = service.app
        self._request = request
        self._run_id = run_id
        self._single = service.app.runs.record(run_id).kind == "prompt"
        asked = query_of(request, EventsQuery)
        self._after = request.headers.get("last-event-id") or asked.last_event_id
        self._numbers, self.complete = _cursor(self._after)
        self._logs: list[EventLog] = []
        self._backends: dict[str, str] = {}
        self._quiet_since = anyio.current_time()

    def _grow(self) -> None:
        """Follow the children that have begun meanwhile."""
        runs = [self._run_id] if self._single else self._app.runs.children(self._run_id)
        for place, run_id in enumerate(runs[len(self._logs) :], len(self._logs)):
            self._logs.append(EventLog(self._app, run_id, self._numbers[place] if place < len(self._numbers) else 0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trail_of(scope).run_id = self._run_id
        first = await self._first()
        if self.complete or (not first and self._ended() and self._has_its_end()):
            # An EventSource connects again after every end; this answer is how it is told to stop.
            return await Response(status_code=204)(scope, receive, send)
        if scope["method"] == "HEAD":
            return await Response(media_type=SSE)(scope, receive, send)
        headers = [(b"content-type", SSE.encode()), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await attended(self._request, lambda: self._flow(first, send))
        except Gone:
            return None
        return await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first(self) -> bytes:
        """The first events to show. Raises ClinvkError(invalid_request) for an id that no event of this run has yet."""
        pieces = self._pieces()
        with anyio.move_on_after(ANEW_SECS):
            while self._is_ahead() and self._run_id not in self._app.executor.live and not self._ended():
                await anyio.sleep(LOOK_SECS)
                pieces += self._pieces()
        if self._is_ahead():
            raise _no_event(self._after)
        return pieces

    def _is_ahead(self) -> bool:
        """Whether the client's id lies beyond what there is: to wait for it would pass over all in between."""
        is_beyond = len(self._numbers) > len(self._logs) or any(log.is_short for log in self._logs)
        return is_beyond and not self.complete

    async def _flow(self, first: bytes, send: Send) -> None:
        async def put(pieces: bytes) -> None:
            await send({"type": "http.response.body", "body": pieces, "more_body": True})
            await anyio.lowlevel.checkpoint()

        await put(first or Sse().heartbeat())  # a browser takes the stream for open at its first byte
        async with self._stirred() as stir:
            while True:
                ended = self._ended()
                pieces = self._pieces()
                if pieces:
                    await put(pieces)
                elif ended:
                    return await put(self._last())
                elif self._service.drain.closing.is_set():
                    return await put(Sse().failure(SHUTTING_DOWN))
                elif not await stir():
                    await put(Sse().heartbeat())

    @asynccontextmanager
    async def _stirred(self) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
        """Yields what waits for news of the run, and says whether there was any in time."""
        live = self._app.executor.live.get(self._run_id)
        news = [anyio.Event()]

        def wake(*_: object) -> None:
            news[0].set()

        async def stir() -> bool:
            if live is None or live.done.is_set():  # nobody tells: another process drives it, or still holds its lock
                with anyio.move_on_after(LOOK_SECS):
                    await self._service.drain.closing.wait()
                return self._is_lively()
            with anyio.move_on_after(HEARTBEAT_SECS):
                await news[0].wait()
            stirred = news[0].is_set()
            news[0] = anyio.Event()
            return stirred

        async def await_then_wake(event: anyio.Event) -> None:
            await event.wait()
            wake()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(await_then_wake, self._service.drain.closing)
            if live is not None:
                tasks.start_soon(await_then_wake, live.done)
            with live.heard_by(wake) if live is not None else nullcontext():
                yield stir
            tasks.cancel_scope.cancel()

    def _is_lively(self) -> bool:
        """Whether no heartbeat is due, where nobody tells of news."""
        now = anyio.current_time()
        if now - self._quiet_since < HEARTBEAT_SECS:
            return True
        self._quiet_since = now
        return False

    def _ended(self) -> bool:
        """Whether the run is over and all its events are written: the last one follows the result."""
        if self._run_id in self._app.executor.live:
            return False
        state = settle.settled(self._app, self._run_id)
        return state.status != "running" and (self._has_its_end() or not self._app.runs.is_driven(self._run_id))

    def _has_its_end(self) -> bool:
        last = self._logs[0].last if self._single else b""
        return _event(last).get("type") == "run_finished"

    def _pieces(self) -> bytes:
        self._grow()
        return b"".join(self._piece(log, line) for log in self._logs for line in islice(log.lines(), MOST_LINES))

    def _piece(self, log: EventLog, line: bytes) -> bytes:
        event = _event(line)
        if not event:
            return b""
        shown = {**event, "run_id": log.run_id, "backend": self._backend(log.run_id)}
        return sse(shown, event=str(event.get("type", "message")), number=self._id())

    def _backend(self, run_id: str) -> str:
        if run_id not in self._backends:
            self._backends[run_id] = self._app.runs.record(run_id).backend
        return self._backends[run_id]

    def _id(self) -> str:
        return ".".join(str(log.read) for log in self._logs)

    def _last(self) -> bytes:
        """The end of the run itself, where none of the files has it."""
        if self._has_its_end():
            return b""
        result = settle.current(self._app, self._run_id)
        about = {"run_id": self._run_id, "backend": self._backend(self._run_id)}
        event = {"type": "run_finished", "status": result.status, **about}
        error = result.model_dump(mode="json")["error"]
        return sse({**event, "error": error}, event="run_finished", number=f"{self._id() or 0}.{END}")


def _event(line: bytes) -> dict[str, Any]:
    """A line of the log; empty where somebody damaged it."""
    try:
        event: object = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", event) if isinstance(event, dict) else {}


def _cursor(given: str) -> tuple[list[int], bool]:
    """The numbers in an id, and whether it is the last one. Raises ClinvkError(invalid_request)."""
    parts = given.strip().split(".") if given.strip() else []
    complete = bool(parts) and parts[-1] == END
    numbers = parts[:-1] if complete else parts
    if any(not (part.isascii() and part.isdigit() and len(part) < 19) for part in numbers):
        raise _no_event(given)
    return [int(part) for part in numbers], complete


def _no_event(given: str) -> ClinvkError:
    return ClinvkError(
        "invalid_request",
        f"Last-Event-ID {given[:60]!r} is no id of an event of this run",
        hint="leave it out to get all events",
        details={"field": "Last-Event-ID", "value": given[:60]},
    )
