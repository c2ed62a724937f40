"""What a command writes: results on standard output, everything else on standard error."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from clinvk.cli.terminal import printable

_WORDS = {  # how the operations name to an agent what is typed here
    "runs(action='list')": "clinvk runs list",
    "sessions(action='list')": "clinvk sessions list",
    "fresh=true": "--fresh",
}


class UnwritableError(Exception):
    """Standard output takes nothing though its reader is there: the disk is full, say."""


class Console:
    """Where a command writes to.

    `quiet` leaves out notes, never results or errors; with `one_line` a JSON document takes one line.
    """

    __slots__ = ("_open", "one_line", "quiet")

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.one_line = False
        self._open = False

    def say(self, text: str) -> None:
        """A line of the result, at once."""
        _write(f"{text}\n", flush=True)

    def text(self, text: str) -> None:
        """Lines of the result that others wrote: verbatim for a program, harmless for a terminal."""
        self.say(printable(text) if sys.stdout.isatty() else text)

    def raw(self, piece: str, *, end: bool = False) -> None:
        """A piece of such text; with `end` the last line is ended, unless it is."""
        if piece:
            _write(printable(piece) if sys.stdout.isatty() else piece)
            self._open = not piece.endswith("\n")
        if end:
            _write("\n" if self._open else "", flush=True)
            self._open = False

    def flush(self) -> None:
        """Write what is held back."""
        _write("", flush=True)

    def document(self, value: object) -> None:
        """The result as JSON."""
        import json

        self.say(json.dumps(value, indent=None if self.one_line else 2, ensure_ascii=False))

    def note(self, text: str) -> None:
        """Something beside the result: progress, a warning."""
        if not self.quiet:
            _tell(f"{_here(text)}\n")

    def complain(self, message: str, hint: str | None = None) -> None:
        """An error and what to do about it."""
        _tell(f"clinvk: {_here(message)}\n" + (f"  hint: {_here(hint)}\n" if hint else ""))


def _write(text: str, *, flush: bool = False) -> None:
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(error.strerror) from error


def discard(stream: TextIO) -> None:
    """Let go what a stream still holds: the interpreter tries to write it once more at its end, and fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(text: str) -> None:
    """Write to standard error; where nobody takes it, the exit code still tells what happened."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def _here(text: str) -> str:
    """A message as it is for this door."""
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return printable(text)


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as aligned columns; the last one runs as far as it needs."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[:-1]]
    lines: list[str] = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def plain(value: object) -> str:
    """A configuration value as one reads it in a file."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple) or value is None or isinstance(value, bool):
        import json

        return json.dumps(value, ensure_ascii=False)
    return str(value)
