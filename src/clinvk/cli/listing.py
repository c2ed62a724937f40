"""Listings of sessions, runs and compared answers: a table on a terminal, plain columns for a program."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clinvk.cli import results, terminal
from clinvk.cli.call import Call
from clinvk.cli.console import columns
from clinvk.cli.rows import STATUS, Listing
from clinvk.response import CompareResult, RunSummary, SessionSummary

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded

LAST = 1_000_000


def say(call: Call, loaded: "Loaded", listing: Listing) -> None:
    """Write it to standard output."""
    if not terminal.is_terminal(sys.stdout, call.environ):
        call.console.say("\n".join(columns([listing.headings, *listing.rows])))
        return
    from clinvk.cli import tables

    screen = tables.screen(loaded, call.environ)
    if listing.width() <= screen.width:
        screen.print(tables.drawn(listing))
    else:
        call.console.say("\n".join(listing.stacked()))


def ago(moment: str, now: datetime | None = None) -> str:
    """How long ago a time of a record was: `5m`, `3h`, `12d`."""
    then = datetime.fromisoformat(moment)
    passed = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= length:
            return f"{passed // length}{unit}"
    return f"{passed}s"


def sessions(found: Sequence[SessionSummary], *, numbered: bool = False) -> Listing:
    """Sessions, one per line."""
    first = ("#",) if numbered else ()
    listing = Listing((*first, "ID", "BACKEND", STATUS, "TURNS", "USED", "TAGS", "TITLE"))
    for number, each in enumerate(found, 1):
        listing.add(
            *((str(number),) if numbered else ()),
            each.id,
            each.backend,
            each.status,
            str(each.turn_count),
            ago(each.last_used),
            ",".join(each.tags),
            each.title if each.snippet is None else f"{each.title} | {each.snippet}",
        )
    return listing


def runs(found: Sequence[RunSummary]) -> Listing:
    """Runs, one per line."""
    listing = Listing(("RUN", "KIND", "BACKEND", STATUS, "NEW", "BEGAN", "TOOK", "TITLE"))
    for each in found:
        listing.add(
            each.run_id,
            each.kind,
            each.backend,
            each.error_code or each.status,
            "unread" if each.unread else "",
            ago(each.created_at),
            results.seconds(each.duration_ms),
            each.title,
        )
    return listing


def ranking(result: CompareResult) -> Listing:
    """The answers of a comparison in figures, best first; those without an answer follow."""
    listing = Listing(("PLACE", "BACKEND", "MODEL", "TIME", "TOKENS", "COST", "SCORE", STATUS))
    places = {each.backend: each for each in result.ranking}
    for each in sorted(result.results, key=lambda part: places[part.backend].place if part.backend in places else LAST):
        ranked = places.get(each.backend)
        listing.add(
            str(ranked.place) if ranked else "-",
            each.backend,
            each.model or "",
            results.seconds(each.duration_ms),
            results.tokens(each.token_usage),
            results.cost(each.cost_usd),
            "" if ranked is None or ranked.score is None else f"{ranked.score:g}",
            each.error.code if each.error else each.status,
        )
    return listing
