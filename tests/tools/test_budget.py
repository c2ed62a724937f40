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
    assert ledger.spent() == (0.75, 0)


@pytest.mark.parametrize("torn", ["b", "b ", "b 1", "b 1.2", "\ufffd\0"])
def test_a_line_that_a_crash_tore_counts_for_nothing_and_spoils_no_other(tmp_path: Path, torn: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 1.0)
    (log,) = (tmp_path / "costs").iterdir()
    log.write_text(log.read_text(encoding="utf-8") + torn, encoding="utf-8")
    assert ledger.spent() == (1.0, 1)
    ledger.add("c", 0.5)
    ledger.add("d", 0.25)
    assert ledger.spent() == (1.75, 1)
    assert ledger.check(2.0) == [
        f"what 1 of today's runs cost is unknown: {log} is damaged; the budget does not count it"
    ]
    with pytest.raises(ClinvkError, match=r"\$1.75 were spent today .*; what 1 of today's runs cost is unknown"):
        ledger.check(1.5)


def test_a_cost_whose_line_was_torn_is_known_once_it_is_noted_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 1.0)
    (log,) = (tmp_path / "costs").iterdir()
    log.write_text("a 1.0\nb 1", encoding="utf-8")
    ledger.add("b", 1.25)
    assert (ledger.spent(), ledger.check(4.0)) == ((2.25, 0), [])


@pytest.mark.parametrize("cost", ["nan", "inf", "-5", "1e999"])
def test_what_is_no_amount_neither_blocks_nor_lifts_a_budget(tmp_path: Path, cost: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("a", 1.0)
    (log,) = (tmp_path / "costs").iterdir()
    log.write_text(f"{log.read_text(encoding='utf-8')}b {cost}\n", encoding="utf-8")
    assert ledger.spent() == (1.0, 1)


@pytest.mark.anyio
async def test_a_run_beside_damaged_costs_says_that_the_budget_does_not_count_them(world: World) -> None:
    async with world.app(limits__budget_usd_per_day=100) as app:
        Ledger(app.home).add("a", 1.0)
        (log,) = (app.home / "costs").iterdir()
        log.write_text("a 1", encoding="utf-8")
        result = await prompt.prompt(app, PromptRequest(prompt="hi", backend="claude"), world.caller())
    assert isinstance(result, PromptResult)
    assert result.status == "completed"
    assert [warning for warning in result.warnings if str(log) in warning]


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
