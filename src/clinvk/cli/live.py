"""The table of a batch on a terminal while it runs: one line per part."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from clinvk.cli import tables, terminal
from clinvk.cli.call import Call
from clinvk.cli.progress import Row, elapsed
from clinvk.cli.rows import STATUS, Listing
from clinvk.cli.views import ProgressView, Result
from clinvk.config.cascade import Loaded
from clinvk.events import Event
from clinvk.tools.app import App


class TableView(ProgressView):
    """The table, gone when all parts have ended; who made it writes the results."""

    def __init__(self, call: Call, loaded: Loaded, rows: Sequence[Row]) -> None:
        super().__init__(call, loaded)
        self._rows = list(rows)
        self._of_run: dict[str, Row] = {}
        self._live: Live | None = None
        self._colour = terminal.colour(loaded, call.environ)

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """An event of one of the parts."""
        row = self._of_run.get(run_id) or self._found(run_id)
        if row is not None:
            row.follow(backend, event)

    def _found(self, run_id: str) -> Row | None:
        live = self.app.executor.live.get(run_id) if self.app is not None else None
        position = live.record.position if live is not None else None
        if position is None:
            return None
        while len(self._rows) < position:
            self._rows.append(Row("judge", ""))
        return self._of_run.setdefault(run_id, self._rows[position - 1])

    def draw(self) -> None:
        """Show the table."""
        if self._live is None:
            console = Console(file=sys.stderr, no_color=not self._colour, highlight=False, markup=False, emoji=False)
            self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(self._table(), refresh=True)

    def erase(self) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    async def finish(self, app: App, result: Result) -> None:
        """Nothing but the end of the table."""
        await super().finish(app, result)
        self.erase()

    def _table(self) -> Table:
        listing = Listing(("#", "NAME", "BACKEND", STATUS, "TIME", "NOW"))
        for number, row in enumerate(self._rows, 1):
            took = row.seconds()
            time_ = "" if took is None else elapsed(took)
            listing.add(str(number), row.name, row.backend, row.status, time_, row.doing or row.text)
        return tables.drawn(listing)
