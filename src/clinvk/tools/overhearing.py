"""What a run does that another process drives, heard from the logs of its events on disk."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Annotated

from pydantic import Discriminator, TypeAdapter, ValidationError

from clinvk.errors import ClinvkError
from clinvk.events import Event, RunStarted
from clinvk.executor.live import Listener
from clinvk.tools.app import App
from clinvk.tools.eventlog import EventLog

LOOK_LINES = 5_000  # of one log at one look; the next look goes on there


class Overhearing:
    """Tells a listener of a run and its children; who comes late is told first what has begun."""

    def __init__(self, app: App, run_id: str, listener: Listener) -> None:
        self._app = app
        self._run_id = run_id
        self._listener = listener
        self._logs: dict[str, EventLog] = {}
        for log in self._family():
            if log.skip() and app.runs.result(log.run_id) is None:
                self._tell(log.run_id, None)

    def listen(self) -> None:
        """Tell what was logged since the last look."""
        for log in self._family():
            lines = list(islice(log.lines(), LOOK_LINES))
            if lines:
                self._tell(log.run_id, _events(lines))

    def _family(self) -> list[EventLog]:
        members = [self._run_id, *self._app.runs.children(self._run_id)]
        return [self._logs.setdefault(member, EventLog(self._app, member)) for member in members]

    def _tell(self, run_id: str, events: Iterable[Event] | None) -> None:
        """Pass on events; None says that the run has begun."""
        with suppress(ClinvkError):  # its record was damaged, or removed just now
            backend = self._app.runs.record(run_id).backend
            for event in [RunStarted(run_id, backend)] if events is None else events:
                self._listener(run_id, backend, event)


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Discriminator("type")])


def _events(lines: Iterable[bytes]) -> list[Event]:
    """The events of these lines; what is none, because somebody damaged the log, is passed over."""
    events: list[Event] = []
    for line in lines:
        with suppress(ValidationError):
            events.append(_adapter().validate_json(line))
    return events
