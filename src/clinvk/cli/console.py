"""What a command writes: results on standard output, everything else on standard error."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from clinvk.cli.terminal import printable

_WORDS = {  # how the operations name to an agent what is typed here
    "runs(action='list')": "clinvk runs list",
    "sessions(action='list')": "clinvk sessions list",
    "fresh=true": "--fresh",
}


class Console:
    """Where a command writes to; `quiet` leaves out notes, never results or errors."""

    __slots__ = ("_open", "quiet")

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._open = False

    def say(self, text: str) -> None:
        """A line of the result, at once."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Lines of the result that others wrote: verbatim for a program, harmless for a terminal."""
        self.say(printable(text) if sys.stdout.isatty() else text)

    def raw(self, piece: str, *, end: bool = False) -> None:
        """A piece of such text; with `end` the last line is ended, unless it is."""
        if piece:
            sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
            self._open = not piece.endswith("\n")
        if end:
            if self._open:
                sys.stdout.write("\n")
            self._open = False
            sys.stdout.flush()

    def document(self, value: object) -> None:
        """The result as JSON."""
        import json

        self.say(json.dumps(value, indent=2, ensure_ascii=False))

    def note(self, text: str) -> None:
        """Something beside the result: progress, a warning."""
        if not self.quiet:
            sys.stderr.write(f"{_here(text)}\n")
            sys.stderr.flush()

    def complain(self, message: str, hint: str | None = None) -> None:
        """An error and what to do about it."""
        sys.stderr.write(f"clinvk: {_here(message)}\n")
        if hint:
            sys.stderr.write(f"  hint: {_here(hint)}\n")
        sys.stderr.flush()


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
