"""What is seen of an operation on one result: progress, the answer, or the events."""

import json
import sys
from collections.abc import Callable, Iterator

import anyio

from clinvk.cli import terminal
from clinvk.cli.call import Call
from clinvk.cli.outlet import Outlet
from clinvk.cli.person import Person
from clinvk.cli.progress import TICK_SECS, ProgressLine
from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.events import Event, RunFinished, TextDelta, TextEnd, ToolFinished, ToolStarted, to_json
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult
from clinvk.tools.app import App
from clinvk.tools.caller import Ask
from clinvk.tools.output import text_of

Result = PromptResult | ParallelResult | ChainResult | CompareResult
COMPARED_CHARS = 64 * 1024  # of an answer, to tell whether it is the one that was shown


class ProgressView:
    """Progress only; who made it writes the result."""

    def __init__(self, call: Call, loaded: Loaded) -> None:
        self.on_terminal = terminal.is_terminal(sys.stdout, call.environ)
        watched = terminal.is_terminal(sys.stderr, call.environ) and not call.console.quiet
        self.line = ProgressLine(shown=watched, colour=terminal.colour(loaded, call.environ))
        self.outlet = Outlet()
        self.app: App | None = None
        self._person = Person(self._make_room)
        self._can_ask = terminal.can_ask() and not call.args.background  # then this process does not wait

    @property
    def broken(self) -> Exception | None:
        """Why nothing can be shown any more."""
        return self.outlet.broken

    @property
    def ask(self) -> Ask | None:
        """Asks at the terminal, where there is one."""
        return self._person.ask if self._can_ask else None

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """An event of the run."""
        self.line.hear(backend, event)

    async def show(self, app: App, stop: Callable[[], None]) -> None:
        """Draw progress where and while nothing else is written."""
        self.app, self.outlet.on_broken = app, stop
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.outlet.flow)
            while True:
                if self.outlet.idle and self.outlet.at_line_start and not self._person.is_asked:
                    self.draw()
                await anyio.sleep(TICK_SECS)

    def draw(self) -> None:
        """Show what is going on."""
        self.line.draw()

    async def finish(self, app: App, result: Result) -> None:
        """Let everything be written."""
        await self.outlet.emptied()

    def leave(self) -> None:
        """Take the progress away."""
        self.erase()

    def erase(self) -> None:
        """Make room for something else."""
        self.line.erase()

    async def _make_room(self) -> None:
        await self.outlet.emptied()
        self.erase()


class AnswerView(ProgressView):
    """The answer. `live`, and on a terminal: all that the agent says, as it comes; else what it says last, at the end.

    Only the end shows which message is the answer, and a program that reads it must get nothing else.
    """

    def __init__(self, call: Call, loaded: Loaded, *, live: bool) -> None:
        super().__init__(call, loaded)
        self._live = live or self.on_terminal
        self._clean = terminal.printable if self.on_terminal else str
        self._begun = False
        self._message: list[str] = []
        self._kept = 0
        self._chars = 0

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """An event of the run."""
        super().hear(run_id, backend, event)
        match event:
            case TextDelta(text=text) if self._live and text:
                self._say(text)
            case TextEnd() | ToolStarted() | ToolFinished() if self._begun:
                self._begun = False
                self._end_line()
            case _:
                pass

    def _say(self, text: str) -> None:
        self.line.erase()
        if not self._begun:
            if self._message:
                self.outlet.put("\n")
            self._begun, self._message, self._kept, self._chars = True, [], 0, 0
        if self._kept < COMPARED_CHARS:
            self._message.append(text)
            self._kept += len(text)
        self._chars += len(text)
        self.outlet.put(self._clean(text))

    def _end_line(self) -> None:
        if not self.outlet.at_line_start:
            self.outlet.put("\n")

    async def finish(self, app: App, result: Result) -> None:
        """Write the answer, unless it was the last thing that was shown."""
        assert isinstance(result, PromptResult)
        self._end_line()
        await self.outlet.emptied()
        self.line.erase()
        if result.status == "running" or self._is_shown(result):
            return
        if self._message:
            self.outlet.put("\n")
            await self.outlet.emptied()
        await self.outlet.write_all(self._clean(piece) for piece in whole(app, result))

    def _is_shown(self, result: PromptResult) -> bool:
        """Whether the last message that was shown is the answer."""
        shown = "".join(self._message)
        if not shown:
            return not result.output
        if self._chars == result.output_chars:
            both = min(len(shown), len(result.output))
            return shown[:both] == result.output[:both]
        return len(shown) == self._chars and shown.strip() == result.output.strip()


class EventsView(ProgressView):
    """The unified events, one JSON object per line, with the run that each belongs to."""

    def __init__(self, call: Call, loaded: Loaded) -> None:
        super().__init__(call, loaded)
        self._ended: set[str] = set()

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """An event of the run."""
        super().hear(run_id, backend, event)
        self.outlet.put(_line(run_id, backend, event))
        if isinstance(event, RunFinished):
            self._ended.add(run_id)

    async def finish(self, app: App, result: Result) -> None:
        """End with the end of the run, also of one that another process drove, or with where to find it."""
        if result.status == "running":
            self.outlet.put(json.dumps({"type": "result", **result.model_dump(mode="json")}, ensure_ascii=False) + "\n")
        elif result.run_id not in self._ended:
            backend = result.backend if isinstance(result, PromptResult) else ""
            self.outlet.put(_line(result.run_id, backend, RunFinished(result.run_id, result.status, result.error)))
        await super().finish(app, result)


def _line(run_id: str, backend: str, event: Event) -> str:
    """As the streams of the HTTP gateway show it."""
    return json.dumps({**to_json(event), "run_id": run_id, "backend": backend}, ensure_ascii=False) + "\n"


def whole(app: App, result: PromptResult) -> Iterator[str]:
    """All of an answer, in pieces, also where the result holds only its beginning."""
    if not result.output_truncated:
        yield result.output
        return
    try:
        yield from text_of(app, result.run_id)
    except ClinvkError:  # the record could not be kept
        yield result.output
