"""Tables on a terminal, as wide as it is; imported only where there is one."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clinvk.cli import terminal
from clinvk.cli.rows import STATUS, Listing

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded

COLUMN_WIDTH = 36  # in less room an answer is harder to read than one below the other
COLOURS = {
    "completed": "green",
    "active": "green",
    "running": "yellow",
    "cancelled": "dim",
    "waiting": "dim",
    "idle": "",
}


def screen(loaded: "Loaded", environ: Mapping[str, str]) -> Console:
    """Standard output, which is a terminal."""
    return Console(
        file=sys.stdout,
        force_terminal=True,
        no_color=not terminal.colour(loaded, environ),
        width=terminal.width(sys.stdout),
        highlight=False,
        markup=False,
        emoji=False,
    )


def drawn(listing: Listing) -> Table:
    """A listing as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    *headings, last = listing.headings
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    table.add_column(last)  # its cells do not wrap; a column that did not would let all others be cut instead
    status = listing.headings.index(STATUS) if STATUS in listing.headings else None
    for row in listing.rows:
        table.add_row(
            *(
                Text(
                    text,
                    style=COLOURS.get(text, "red") if place == status else "",
                    no_wrap=True,
                    overflow="ellipsis",
                )
                for place, text in enumerate(row)
            )
        )
    return table


def side_by_side(answers: Sequence[tuple[str, str]]) -> Table:
    """Headings and texts in columns of equal width."""
    table = Table(box=box.SQUARE, expand=True)
    for heading, _ in answers:
        table.add_column(Text(terminal.printable(heading)), ratio=1)
    table.add_row(*(Text(terminal.printable(text).strip()) for _, text in answers))
    return table
