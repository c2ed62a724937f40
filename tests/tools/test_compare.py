"""The same prompt on several backends, ranked and judged."""

import re
from typing import Any

import anyio
import pytest

from clinvk.errors import ClinvkError
from clinvk.response import CompareResult
from fakes import agent
from fakes.calls import compared
from fakes.world import World

pytestmark = pytest.mark.anyio


async def test_answers_stand_side_by_side_and_failures_rank_nowhere(world: World) -> None:
    agent.decide(world.bin, "gemini", {"fail": "it broke"})
    async with world.app() as app:
        result = await compared(app, world, backends=["gemini", "claude", "codex"], models={"claude": "opus"})
    assert result.backends == ["gemini", "claude", "codex"]
    assert [(one.backend, one.status) for one in result.results] == [
        ("gemini", "failed"),
        ("claude", "completed"),
        ("codex", "completed"),
    ]
    assert result.status == "completed"
    assert sorted(one.backend for one in result.ranking) == ["claude", "codex"]
    assert [one.place for one in result.ranking] == [1, 2]
    assert "--model=opus" in world.calls("claude")[0]["argv"]


async def test_all_that_are_installed_are_compared_when_none_is_named(world: World) -> None:
    async with world.app() as app:
        result = await compared(app, world)
    assert result.backends == ["claude", "codex", "gemini"]


NO_AGENTS = {f"backends__{name}__enabled": False for name in ("claude", "codex", "gemini")}


async def test_where_no_agent_is_installed_the_stand_in_answers_only_if_it_was_chosen(world: World) -> None:
    async with world.app(**NO_AGENTS) as app:
        with pytest.raises(ClinvkError) as refused:
            await compared(app, world)
        named = await compared(app, world, backends=["offline"])
    async with world.app(**NO_AGENTS, default_backend="offline") as app:
        chosen = await compared(app, world)
    assert refused.value.failure.code == "backend_unavailable"
    assert "'offline'" in (refused.value.failure.hint or "")
    assert (named.backends, chosen.backends) == (["offline"], ["offline"])


async def test_sequential_compares_run_one_at_a_time(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    agent.decide(world.bin, "claude", {"reach": str(up)}, {"wait": str(go)})
    async with world.app() as app, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: compared(app, world, backends=["claude", "codex"], sequential=True))
        await up.reached()
        assert app.executor.admission.running == 1
        assert app.executor.admission.waiting == 0
        assert world.calls("codex") == []
        await go.release()
    assert len(world.calls("codex")) == 1


async def test_a_judge_sees_anonymous_answers_and_its_letters_become_names(world: World) -> None:
    for name in ("claude", "codex"):
        agent.decide(world.bin, name, {"answer": f"the answer by {name.upper()[::-1]}"})
    reply = 'Sure!\n{"winner": "b", "scores": {"A": 3, "B": 8.5, "Z": 10, "x": "y"}, "reasons": "B is right"} ok'
    agent.decide(world.bin, "gemini", {"answer": reply})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    [judged] = world.calls("gemini")
    assert not [name for name in ("claude", "codex") if name in judged["prompt"].lower().split("<request>")[1]]
    shown = re.findall(r"<answer id=.(.).>\nthe answer by (\w+)\n</answer>", judged["prompt"])
    letters = {letter: said[::-1].lower() for letter, said in shown}
    assert sorted(letters.values()) == ["claude", "codex"]
    verdict = result.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.error) == (letters["B"], None)
    assert verdict.scores == {letters["A"]: 3, letters["B"]: 8.5}
    assert [(one.backend, one.score) for one in result.ranking] == [(letters["B"], 8.5), (letters["A"], 3)]


@pytest.mark.parametrize(
    "reply",
    [
        "I like them all",
        "{",
        "[]",
        '{"winner": 7, "scores": "none"}',
        "}{",
        '{"scores": {"A": NaN}}',
        '{"scores": {"A": 1e999, "B": true}}',
    ],
)
async def test_a_judge_that_talks_nonsense_spoils_nothing(world: World, reply: str) -> None:
    agent.decide(world.bin, "gemini", {"answer": reply})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert result.status == "completed"
    assert result.verdict is not None
    assert result.verdict.winner is None
    assert len(result.ranking) == 2
    CompareResult.model_validate_json(result.model_dump_json())


async def test_a_judge_that_fails_spoils_nothing(world: World) -> None:
    agent.decide(world.bin, "gemini", {"exit": 3})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert (result.status, result.verdict and result.verdict.error is not None) == ("completed", True)


async def test_one_answer_alone_is_not_judged(world: World) -> None:
    agent.decide(world.bin, "codex", {"fail": "it broke"})
    async with world.app() as app:
        result = await compared(app, world, backends=["claude", "codex"], judge="gemini")
    assert world.calls("gemini") == []
    assert result.verdict is not None
    assert result.verdict.error is not None


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"backends": []}, "backends"),
        ({"backends": ["claude", "nope"]}, "nope"),
        ({"backends": ["claude", "claude"]}, "claude"),
        ({"backends": ["claude"], "models": {"codex": "x"}}, "codex"),
        ({"backends": ["claude"], "judge": "nope"}, "nope"),
    ],
)
async def test_a_comparison_that_makes_no_sense_is_refused(world: World, asked: dict[str, Any], names: str) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await compared(app, world, **asked)
        assert app.runs.ids() == []
    assert names in refused.value.failure.message
