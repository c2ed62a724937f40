"""A person is asked while a run goes on."""

import anyio
import pytest

from clinvk.events import Event
from clinvk.executor import board, conversing
from clinvk.executor.questions import Question
from clinvk.request import PromptRequest, RunsRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt, runs
from clinvk.tools.asking import decide, heeding
from clinvk.tools.caller import Caller, QuestionPending
from clinvk.tools.waiting import ended
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio

STALL_SECS = 0.6


@pytest.mark.parametrize("allow", [True, False])
async def test_a_person_decides_and_may_take_longer_than_an_agent_may_be_silent(world: World, allow: bool) -> None:
    asked: list[tuple[str, str]] = []
    kinds: list[str] = []

    async def ask(question: Question) -> tuple[bool, str]:
        asked.append((question.tool, question.action))
        await anyio.sleep(2 * STALL_SECS)  # what is tested: a person who thinks for longer than the limit
        return allow, "so decided"

    def hear(_run: str, _backend: str, event: Event) -> None:
        kinds.append(event.type)

    async with world.app(limits__stall_secs=STALL_SECS) as app:
        caller = Caller(client="test", cwd=world.workdir, ask=ask, listener=hear)
        text = agent.prompt({"ask": "touch made"}, {"answer": "over"})
        with anyio.fail_after(PATIENCE_SECS):
            result = await prompt.prompt(app, PromptRequest(prompt=text, backend="claude"), caller)
    assert isinstance(result, PromptResult)
    assert (result.status, result.output, asked) == ("completed", "over", [("Bash", "touch made")])
    assert (world.workdir / "made").exists() == allow
    assert kinds.index("approval_asked") < kinds.index("approval_answered")


async def test_a_person_whose_answer_was_not_taken_elsewhere_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversing, "LOOK_SECS", 1.0)  # the driver does not look in the time of the first answer
    monkeypatch.setattr(board, "TAKE_SECS", 0.0)
    asked: list[str] = []

    async def ask(question: Question) -> tuple[bool, str]:
        asked.append(question.action)
        if len(asked) == 2:
            monkeypatch.setattr(board, "TAKE_SECS", PATIENCE_SECS)
        return True, "so decided"

    text = agent.prompt({"ask": "touch made"}, {"answer": "over"})
    with anyio.fail_after(PATIENCE_SECS):
        async with world.app() as driving, world.app() as app:
            caller = Caller(client="test", cwd=world.workdir, asks_later=True)
            with pytest.raises(QuestionPending) as pending:
                await prompt.prompt(driving, PromptRequest(prompt=text, backend="claude"), caller)
            request = RunsRequest(action="wait", run_id=pending.value.question.run_id)
            shown = await runs.runs(app, request, Caller(client="test", cwd=world.workdir, ask=ask))
            assert isinstance(shown.result, PromptResult)
            assert (shown.result.status, asked) == ("completed", ["touch made"] * 2)
    assert (world.workdir / "made").exists()


async def test_of_a_run_that_has_just_ended_no_question_is_left(world: World) -> None:
    text = agent.prompt({"ask": "touch made"}, {"answer": "over"})
    with anyio.fail_after(PATIENCE_SECS):
        async with world.app() as driving, world.app() as app:
            caller = Caller(client="test", cwd=world.workdir, asks_later=True)
            with pytest.raises(QuestionPending) as pending:
                await prompt.prompt(driving, PromptRequest(prompt=text, backend="claude"), caller)
            question = pending.value.question

            async def until() -> None:
                with pytest.raises(anyio.get_cancelled_exc_class()):  # the question was seen
                    await anyio.sleep_forever()
                with anyio.CancelScope(shield=True):
                    await decide(driving, question, allowed=True, reason="so decided")
                    await ended(app, question.run_id)

            await heeding(app, question.run_id, caller, until)
    assert (world.workdir / "made").exists()
