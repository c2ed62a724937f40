"""Tables of sessions and runs: as wide as the terminal, whole on a pipe."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clinvk.cli import results, terminal
from clinvk.response import CompareResult, RunSummary, SessionSummary

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded

PIPE_WIDTH = 10_000  # a program that reads a table must find every word of it
COLUMN_WIDTH = 36  # in less room an answer is harder to read than one below the other
COLOURS = {
    "completed": "green",
    "active": "green",
    "failed": "red",
    "running": "yellow",
    "cancelled": "dim",
    "idle": "",
}


def screen(loaded: "Loaded", environ: Mapping[str, str]) -> Console:
    """Standard output, for tables."""
    on_terminal = terminal.is_terminal(sys.stdout, environ)
    return Console(
        file=sys.stdout,
        force_terminal=on_terminal,
        no_color=not terminal.colour(loaded, environ),
        width=terminal.width(sys.stdout) if on_terminal else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def made(headings: Sequence[str], last: str) -> Table:
    """An empty table; the column `last` takes what width there is, and is cut to it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    table.add_column(last)  # its cells do not wrap; a column that did not would let all others be cut instead
    return table


def cell(text: str, style: str = "") -> Text:
    """Text of others in a table."""
    return Text(" ".join(terminal.printable(text).split()), style=style, no_wrap=True, overflow="ellipsis")


def state(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=COLOURS.get(status, "" if status == "waiting" else "red"))


def ago(moment: str, now: datetime | None = None) -> str:
    """How long ago a time of a record was: `5m`, `3h`, `12d`."""
    then = datetime.fromisoformat(moment)
    passed = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= length:
            return f"{passed // length}{unit}"
    return f"{passed}s"


def sessions(found: Sequence[SessionSummary], *, numbered: bool = False) -> Table:
    """Sessions, one per line."""
    first = ["#"] if numbered else []
    table = made([*first, "ID", "BACKEND", "STATUS", "TURNS", "USED", "TAGS"], "TITLE")
    for number, each in enumerate(found, 1):
        table.add_row(
            *([str(number)] if numbered else []),
            each.id,
            each.backend,
            state(each.status),
            str(each.turn_count),
            ago(each.last_used),
            cell(",".join(each.tags)),
            cell(each.title if each.snippet is None else f"{each.title} | {each.snippet}"),
        )
    return table


def runs(found: Sequence[RunSummary]) -> Table:
    """Runs, one per line."""
    table = made(["RUN", "KIND", "BACKEND", "STATUS", "", "BEGAN", "TOOK"], "TITLE")
    for each in found:
        table.add_row(
            each.run_id,
            each.kind,
            each.backend,
            state(each.error_code or each.status),
            "unread" if each.unread else "",
            ago(each.created_at),
            results.seconds(each.duration_ms),
            cell(each.title),
        )
    return table


def ranking(result: CompareResult) -> Table:
    """The answers of a comparison in figures, best first; those without an answer follow."""
    table = made(["PLACE", "BACKEND", "MODEL", "TIME", "TOKENS", "COST", "SCORE"], "STATUS")
    places = {each.backend: each for each in result.ranking}
    for each in sorted(result.results, key=lambda part: places[part.backend].place if part.backend in places else 999):
        ranked = places.get(each.backend)
        table.add_row(
            str(ranked.place) if ranked else "-",
            each.backend,
            cell(each.model or ""),
            results.seconds(each.duration_ms),
            results.tokens(each.token_usage),
            results.cost(each.cost_usd),
            "" if ranked is None or ranked.score is None else f"{ranked.score:g}",
            state(each.error.code if each.error else each.status),
        )
    return table


def side_by_side(answers: Sequence[tuple[str, str]]) -> Table:
    """Headings and texts in columns of equal width."""
    table = Table(box=box.SQUARE, expand=True)
    for heading, _ in answers:
        table.add_column(Text(terminal.printable(heading)), ratio=1)
    table.add_row(*(Text(terminal.printable(text).strip()) for _, text in answers))
    return table
