"""The day's reported cost, and the budget that refuses further runs. Only what backends report can be counted."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from clinvk.errors import ClinvkError
from clinvk.files import private, private_folder, reading, writing

TORN = b"?\n"  # ends a line that a crash or a full disk cut off, so that nobody takes "1" for what was "1.25"


class Spent(NamedTuple):
    """US dollars reported today, and how many runs it is unknown of, as their line is damaged."""

    usd: float
    unknown: int


class Ledger:
    """Costs by UTC day, one line per run: its id and US dollars."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "costs"

    def _today(self) -> Path:
        return self._folder / f"{datetime.now(UTC):%Y-%m-%d}.log"

    def add(self, run_id: str, cost_usd: float) -> None:
        """Note what a run cost; noting it again does not count it twice."""
        private_folder(self._folder)
        path = self._today()
        with writing(path):
            log = private(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                size = os.fstat(log).st_size
                torn = size > 0 and os.pread(log, 1, size - 1) != b"\n"
                os.write(log, (TORN if torn else b"") + f"{run_id} {cost_usd!r}\n".encode())
            finally:
                os.close(log)

    def spent(self) -> Spent:
        """What was reported today."""
        path = self._today()
        with reading(path):
            try:
                log = path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return Spent(0.0, 0)
        *lines, torn = log.split("\n")
        costs: dict[str, float] = {}
        damaged: list[str] = [torn] if torn else []
        for line in filter(None, lines):
            run_id, _, cost = line.partition(" ")
            usd = _amount(cost)
            if usd is None:
                damaged.append(line)
            else:
                costs[run_id] = usd
        unknown = {line.partition(" ")[0] for line in damaged} - costs.keys()  # one that was noted again is known
        return Spent(sum(costs.values()), len(unknown))

    def check(self, budget: float | None) -> list[str]:
        """What is to be said of the budget. Raises ClinvkError(budget_exceeded) when the day's is used up."""
        if budget is None:
            return []
        spent = self.spent()
        unknown = f"what {spent.unknown} of today's runs cost is unknown: {self._today()} is damaged"
        if spent.usd < budget:
            return [f"{unknown}; the budget does not count it"] if spent.unknown else []
        raise ClinvkError(
            "budget_exceeded",
            f"${spent.usd:.2f} were spent today (UTC); the budget is ${budget:.2f}"
            + (f"; {unknown}" if spent.unknown else ""),
            hint="wait for tomorrow, or raise limits.budget_usd_per_day",
            details={"spent_usd": spent.usd, "budget_usd": budget},
        )


def _amount(text: str) -> float | None:
    """US dollars as `add` writes them; None for what is damaged."""
    try:
        usd = float(text)
    except ValueError:
        return None
    return usd if math.isfinite(usd) and usd >= 0 else None
