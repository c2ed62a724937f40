"""What a terminal can show, and what must not reach it."""

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded

DEFAULT_WIDTH = 80
# An answer may hold anything: escape sequences in it must not move the cursor, recolour, or fill the clipboard.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether somebody looks at `stream`, on something that can move its cursor."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether there is somebody who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def colour(loaded: "Loaded", environ: Mapping[str, str]) -> bool:
    """Whether to use colour on a terminal: output.color, and https://no-color.org."""
    return loaded.config.output.color and not environ.get("NO_COLOR")


def width(stream: TextIO) -> int:
    """Columns of the terminal behind `stream`; COLUMNS wins."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH


def printable(text: str) -> str:
    """Text without control characters, but for newlines and tabs; carriage returns before newlines go as well."""
    return _CONTROLS.sub(lambda found: "" if found[0] == "\r" else "\ufffd", text)


def one_line(text: str, cells: int) -> str:
    """Text that takes one line of at most `cells` cells and cannot move the cursor."""
    from rich.cells import cell_len, set_cell_size

    text = " ".join(printable(text[: 8 * cells]).split())
    return text if cell_len(text) <= cells else set_cell_size(text, max(1, cells - 1)).rstrip() + "…"
