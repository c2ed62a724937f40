"""What a run does that another process drives, heard from the logs of its events on disk."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Annotated

from pydantic import Discriminator, TypeAdapter, ValidationError

from clinvk.errors import ClinvkError
from clinvk.events import Event, RunStarted
from clinvk.executor.live import Listener
from clinvk.tools.app import App

LOOK_BYTES = 1 << 20  # of one log at one look; the next look goes on there


class Overhearing:
    """Tells a listener of a run and its children; who comes late is told first what has begun."""

    def __init__(self, app: App, run_id: str, listener: Listener) -> None:
        self._app = app
        self._run_id = run_id
        self._listener = listener
        self._heard: dict[str, int] = {}  # bytes of the log of each
        for member in self._family():
            self._heard[member] = self._size(member)
            if self._heard[member] and app.runs.result(member) is None:
                self._tell(member, None)

    def listen(self) -> None:
        """Tell what was logged since the last look."""
        for member in self._family():
            heard = self._heard.get(member, 0)
            if self._size(member) > heard:
                lines = self._lines(member, heard)
                self._heard[member] = heard + len(lines)
                self._tell(member, _events(lines))

    def _family(self) -> list[str]:
        return [self._run_id, *self._app.runs.children(self._run_id)]

    def _size(self, run_id: str) -> int:
        try:
            return (self._app.runs.path(run_id) / "events.jsonl").stat().st_size
        except OSError:
            return 0

    def _lines(self, run_id: str, begin: int) -> bytes:
        try:
            with (self._app.runs.path(run_id) / "events.jsonl").open("rb") as log:
                log.seek(begin)
                piece = log.read(LOOK_BYTES)
        except OSError:  # removed just now
            return b""
        return piece[: piece.rfind(b"\n") + 1]

    def _tell(self, run_id: str, events: Iterable[Event] | None) -> None:
        """Pass on events; None says that the run has begun."""
        with suppress(ClinvkError):  # its record was damaged, or removed just now
            backend = self._app.runs.record(run_id).backend
            for event in [RunStarted(run_id, backend)] if events is None else events:
                self._listener(run_id, backend, event)


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Discriminator("type")])


def _events(lines: bytes) -> list[Event]:
    """Lines that are no event are passed over: a log that is written anew was met in the middle of one."""
    events: list[Event] = []
    for line in lines.splitlines():
        with suppress(ValidationError):
            events.append(_adapter().validate_json(line))
    return events
