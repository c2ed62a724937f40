"""A day's budget counts what backends report, once, and refuses what comes after it is used up."""

from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.request import PromptRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt
from clinvk.tools.budget import Ledger
from fakes.world import World


def test_a_run_is_counted_once_however_often_it_is_noted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 0.25)
    ledger.add("a", 0.25)
    ledger.add("b", 0.5)
    assert ledger.spent() == 0.75


def test_a_line_that_a_crash_tore_is_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 1.0)
    (log,) = (tmp_path / "costs").iterdir()
    log.write_text(log.read_text(encoding="utf-8") + "b ", encoding="utf-8")
    assert ledger.spent() == 1.0


@pytest.mark.anyio
async def test_prompts_are_refused_when_the_days_budget_is_used_up(world: World) -> None:
    async with world.app(limits__budget_usd_per_day=0.001) as app:
        request = PromptRequest(prompt="hi", backend="claude")
        first = await prompt.prompt(app, request, world.caller())
        assert isinstance(first, PromptResult)
        assert first.cost_usd is not None
        Ledger(app.home).add("another", 1.0)
        with pytest.raises(ClinvkError) as refused:
            await prompt.prompt(app, request, world.caller())
    failure = refused.value.failure
    assert failure.code == "budget_exceeded"
    assert failure.details == {"spent_usd": 1.0 + first.cost_usd, "budget_usd": 0.001}
    assert len(world.calls()) == 1


def test_costs_that_cannot_be_read_refuse_a_budget_with_a_clear_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 0.25)
    (log,) = (tmp_path / "costs").iterdir()
    log.unlink()
    log.mkdir()
    with pytest.raises(ClinvkError) as refused:
        ledger.check(1.0)
    assert str(log) in refused.value.failure.message
    ledger.check(None)
