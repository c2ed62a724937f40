"""What a command writes: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence


class Console:
    """Where a command writes to; `quiet` leaves out notes, never results or errors."""

    __slots__ = ("quiet",)

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """A line of the result, at once."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def document(self, value: object) -> None:
        """The result as JSON."""
        self.say(json.dumps(value, indent=2, ensure_ascii=False))

    def note(self, text: str) -> None:
        """Something beside the result: progress, a warning."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def complain(self, message: str, hint: str | None = None) -> None:
        """An error and what to do about it."""
        sys.stderr.write(f"clinvk: {message}\n")
        if hint:
            sys.stderr.write(f"  hint: {hint}\n")
        sys.stderr.flush()


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
        return json.dumps(value, ensure_ascii=False)
    return str(value)
