"""Reads the output of one command as it grows: into events, the answer, and a log of the events."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.lowlevel

from clinvk.backends.base import Reader
from clinvk.events import Ending, Event, Warned
from clinvk.executor.admission import Start
from clinvk.executor.live import LiveRun
from clinvk.executor.process import Adopted, Supervised
from clinvk.executor.spool import MAX_LINE_BYTES, Answer, EventLog, Lines, chunks
from clinvk.files import reading as reading_file


@dataclass(slots=True)
class Reading:
    """The output of one command on its way from the spool to the answer."""

    folder: Path
    reader: Reader
    live: LiveRun | None
    lines: Lines = field(default_factory=Lines)
    after_feed: Callable[[], None] | None = None
    answer: Answer = field(init=False)
    log: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.answer = Answer(self.folder / "output.txt")
        self.log = EventLog(self.folder / "events.jsonl")

    def take(self, events: Sequence[Event]) -> None:
        """Pass events on: to the answer, to the log, to whoever listens."""
        for event in events:
            self.answer.take(event)
            if self.live is not None:
                self.live.emit(event)
        self.log.write(events)

    def feed(self, chunk: bytes) -> None:
        """Read one piece of output."""
        events: list[Event] = []
        for line in self.lines.feed(chunk):
            events += self.reader.feed(line)
        self.take(events)
        if self.after_feed is not None:
            self.after_feed()

    def end(self) -> None:
        """Read a last line that has no newline."""
        for line in self.lines.rest():
            self.take(self.reader.feed(line))
        self.take([Warned(warning) for warning in self.warnings()])

    def warnings(self) -> list[str]:
        """What the caller should know of how the output was read."""
        warnings: list[str] = []
        if self.lines.skipped:
            warnings.append(f"{self.lines.skipped} lines of output over {MAX_LINE_BYTES} bytes were not read")
        if self.answer.unsaved:
            warnings.append(f"only the beginning of the answer could be saved: {self.answer.unsaved}")
        return warnings

    @contextmanager
    def open_unless_it_fails(self) -> Generator[None]:
        """Close the files when the scope is left by an error or a cancellation; there is then nothing to conclude."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self.answer.close()
        self.log.close()


async def follow(process: Supervised | Adopted, reading: Reading, start: Start) -> Ending:
    """Read the spool as it grows, until the command has ended."""
    path = reading.folder / "stdout"
    with ExitStack() as stack:
        stdout: BinaryIO | None = None
        while True:
            await process.news()
            ending = process.ending
            if stdout is None and path.exists():
                with reading_file(path):
                    stdout = stack.enter_context(path.open("rb"))
            for chunk in chunks(stdout) if stdout else ():
                start.settled.set()
                reading.feed(chunk)
                await anyio.lowlevel.checkpoint()
            if ending is not None:
                reading.end()
                return ending
