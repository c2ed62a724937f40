"""The day's reported cost, and the budget that refuses further runs. Only what backends report can be counted."""

from datetime import UTC, datetime
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.files import private, private_folder, reading, writing


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
        with writing(path), open(path, "a", encoding="utf-8", opener=private) as log:
            log.write(f"{run_id} {cost_usd!r}\n")

    def spent(self) -> float:
        """US dollars reported today."""
        path = self._today()
        with reading(path):
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except FileNotFoundError:
                return 0.0
        costs: dict[str, float] = {}
        for line in lines:
            run_id, _, cost = line.partition(" ")
            try:
                costs[run_id] = float(cost)
            except ValueError:
                continue  # torn by a crash
        return sum(costs.values())

    def check(self, budget: float | None) -> None:
        """Raises ClinvkError(budget_exceeded) when the day's budget is used up."""
        if budget is None:
            return
        spent = self.spent()
        if spent >= budget:
            raise ClinvkError(
                "budget_exceeded",
                f"${spent:.2f} were spent today (UTC); the budget is ${budget:.2f}",
                hint="wait for tomorrow, or raise limits.budget_usd_per_day",
                details={"spent_usd": spent, "budget_usd": budget},
            )
