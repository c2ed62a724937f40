"""The events of a run as server-sent events, from the beginning or from where a client stopped reading.

The id of an event is its line number in the run's events.jsonl. Of a parallel, chain or compare run, whose children
have the events, it is one such number per child, in the order in which they began ("3.0.5"), and ends with `.end` in
the last one.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clinvk.errors import ClinvkError
from clinvk.gateway.attended import Gone, attended
from clinvk.gateway.drain import SHUTTING_DOWN
from clinvk.gateway.feed import HEARTBEAT_SECS
from clinvk.gateway.service import Service, trail_of
from clinvk.gateway.stream import SSE, Sse, sse
from clinvk.tools import settle
from clinvk.tools.app import App

LOOK_SECS = 0.05  # how often the files are looked at: another process may drive the run
MOST_LINES = 200  # sent at once; others are served in between
END = "end"


class Tail:
    """One run's events.jsonl, read as it grows."""

    def __init__(self, app: App, run_id: str, sent: int) -> None:
        self.run_id = run_id
        self.sent = sent  # lines that the client has
        self._path: Path = app.runs.path(run_id) / "events.jsonl"
        self._line = 0
        self._offset = 0
        self.finished = False

    def lines(self) -> Iterator[dict[str, Any]]:
        """Complete lines that were not sent yet, at most `MOST_LINES`."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # whoever inherits a run writes its events anew, the same ones
                    self._line = self._offset = 0
                file.seek(self._offset)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        return
                    self._offset += len(raw)
                    self._line += 1
                    event: dict[str, Any] = json.loads(raw)
                    self.finished = event.get("type") == "run_finished"
                    if self._line > self.sent:
                        self.sent = self._line
                        yield event
                        if self._line % MOST_LINES == 0:
                            return
        except FileNotFoundError:
            return


class Replay:
    """ASGI response: the events of one run and of its children until the run has ended."""

    def __init__(self, service: Service, request: Request, run_id: str) -> None:
        """Raises ClinvkError(invalid_request) when the client's Last-Event-ID is none of this run's."""
        self._service = service
        self._app = service.app
        self._request = request
        self._run_id = run_id
        self._single = service.app.runs.record(run_id).kind == "prompt"
        given = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or ""
        self._numbers, self.complete = _cursor(given)
        self._tails: list[Tail] = []
        self._quiet_since = anyio.current_time()

    def _grow(self) -> None:
        """Follow the children that have begun meanwhile."""
        runs = [self._run_id] if self._single else self._app.runs.children(self._run_id)
        for run_id in runs[len(self._tails) :]:
            place = len(self._tails)
            self._tails.append(Tail(self._app, run_id, self._numbers[place] if place < len(self._numbers) else 0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trail_of(scope).run_id = self._run_id
        first = self._pieces()
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
        return self._single and self._tails[0].finished

    def _pieces(self) -> bytes:
        self._grow()
        return b"".join(self._piece(tail, event) for tail in self._tails for event in tail.lines())

    def _piece(self, tail: Tail, event: Mapping[str, Any]) -> bytes:
        backend = self._app.runs.record(tail.run_id).backend if event.get("type") == "run_started" else None
        shown = {**event, "run_id": tail.run_id} | ({"backend": backend} if backend else {})
        return sse(shown, event=str(event.get("type", "message")), number=self._id())

    def _id(self) -> str:
        return ".".join(str(tail.sent) for tail in self._tails)

    def _last(self) -> bytes:
        """The end of the run itself, where none of the files has it."""
        if self._has_its_end():
            return b""
        result = settle.current(self._app, self._run_id)
        event = {"type": "run_finished", "run_id": self._run_id, "status": result.status}
        error = result.model_dump(mode="json")["error"]
        return sse({**event, "error": error}, event="run_finished", number=f"{self._id() or 0}.{END}")


def _cursor(given: str) -> tuple[list[int], bool]:
    """The numbers in an id, and whether it is the last one. Raises ClinvkError(invalid_request)."""
    parts = given.strip().split(".") if given.strip() else []
    complete = bool(parts) and parts[-1] == END
    numbers = parts[:-1] if complete else parts
    if any(not (part.isascii() and part.isdigit() and len(part) < 19) for part in numbers):
        raise ClinvkError(
            "invalid_request",
            f"Last-Event-ID {given[:60]!r} is no id of an event of this run",
            hint="leave it out to get all events",
            details={"field": "Last-Event-ID", "value": given[:60]},
        )
    return [int(part) for part in numbers], complete
