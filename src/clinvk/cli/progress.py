"""What a run does now, in a line for a terminal: backend, elapsed time, tool."""

import sys
import time
from dataclasses import dataclass
from typing import assert_never

from clinvk.cli import terminal
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

NEWEST_CHARS = 200  # of what a run says
TICK_SECS = 0.2  # how often what is on the screen is looked at


def doing(event: Event) -> str | None:
    """What a run does according to an event; empty when it does nothing special, None when nothing changed."""
    now: str | None
    match event:
        case ToolStarted():
            now = f"{event.name}: {event.detail}" if event.detail else event.name
        case Reasoning():
            now = "thinking"
        case Retrying():
            now = f"waiting to try again: {event.reason}"
        case PermissionDenied():
            now = f"refused: {event.tool} {event.action}"
        case ApprovalAsked():
            now = f"waiting to be allowed: {event.tool} {event.action}"
        case TextDelta() | TextEnd() | ToolFinished() | RunStarted() | SessionStarted() | RunFinished():
            now = ""
        case Warned() | ApprovalAnswered():
            now = None
        case _:
            assert_never(event)
    return now


def elapsed(seconds: float) -> str:
    """`7s`, `1m05s`, `2h03m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole // 60 % 60:02d}m"


class ProgressLine:
    """One line on the standard error of a terminal, drawn anew when what it says has changed."""

    def __init__(self, *, shown: bool, colour: bool) -> None:
        self._shown = shown
        self._colour = colour
        self._began = time.monotonic()
        self._backend = ""
        self._doing = ""
        self._drawn = ""

    def hear(self, backend: str, event: Event) -> None:
        """Follow one event."""
        now = doing(event)
        if now is not None:
            self._backend, self._doing = backend or self._backend, now

    def text(self) -> str:
        """What the line says."""
        parts = [self._backend or "starting", elapsed(time.monotonic() - self._began), self._doing]
        return " · ".join(part for part in parts if part)

    def draw(self) -> None:
        """Show it, if there is a terminal."""
        if not self._shown:
            return
        line = terminal.one_line(self.text(), terminal.width(sys.stderr) - 1)
        if line != self._drawn:
            dim, plain = ("\x1b[2m", "\x1b[0m") if self._colour else ("", "")
            sys.stderr.write(f"\r\x1b[K{dim}{line}{plain}")
            sys.stderr.flush()
            self._drawn = line

    def erase(self) -> None:
        """Take it away, so that something else can be written there."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = ""


@dataclass(slots=True)
class Row:
    """One part, as it is known so far."""

    name: str
    backend: str
    status: str = "waiting"
    doing: str = ""
    text: str = ""
    began: float | None = None
    took: float | None = None

    def follow(self, backend: str, event: Event) -> None:
        """Take in an event."""
        self.backend = backend or self.backend
        match event:
            case RunStarted():
                self.began, self.status = time.monotonic(), "running"
            case RunFinished():
                self.took, self.doing, self.text = self.seconds(), "", ""
                self.status = event.error.code if event.error else event.status
            case TextDelta():
                self.doing, self.text = "", (self.text + event.text)[-NEWEST_CHARS:]
            case _:
                now = doing(event)
                self.doing = self.doing if now is None else now

    def seconds(self) -> float | None:
        """How long it has taken."""
        if self.took is not None or self.began is None:
            return self.took
        return time.monotonic() - self.began
