"""What an agent asks, on disk: shown while its driver lives, answered once, or not at all and then with an error."""

import json
import signal
import sys
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from clinvk.errors import ClinvkError
from clinvk.executor import board
from clinvk.executor.board import Board
from clinvk.executor.questions import Question
from fakes.world import PATIENCE_SECS

pytestmark = pytest.mark.anyio

KILLED_AS_IT_WRITES = """
import resource, signal, sys
from pathlib import Path
import anyio
from clinvk.executor import board

async def answer():
    await board.deliver(Path(sys.argv[1]), sys.argv[2], allowed=False, reason="so decided")

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
anyio.run(answer)
"""
WEIRD = "../of the agent's own choice\n"


def posted(folder: Path) -> tuple[Board, Question]:
    """A question that is open, and its board."""
    mine, question = Board(folder), Question("run", WEIRD, "claude", "Bash", "touch made")
    mine.post(question)
    return mine, question


def left(folder: Path) -> list[Path]:
    """The answers that wait for the driver."""
    return list(folder.glob("answer-*"))


async def answer_left(folder: Path) -> None:
    while not left(folder):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("second", [True, False])
async def test_the_first_answer_is_taken_and_who_answers_otherwise_is_told_so(tmp_path: Path, second: bool) -> None:
    mine, question = posted(tmp_path)
    [shown] = board.open_on_disk(tmp_path, "run")
    assert (shown.question_id, shown.tool, shown.action) == (WEIRD, "Bash", "touch made")
    refused: list[str] = []

    async def answer(allowed: bool) -> None:
        try:
            await board.deliver(tmp_path, WEIRD, allowed=allowed, reason="so decided")
        except ClinvkError as error:
            refused.append(error.failure.message)

    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, True)
            await answer_left(tmp_path)
            tasks.start_soon(answer, second)
            await anyio.lowlevel.checkpoint()
            mine.look(question)
            mine.close(question)
        await answer(second)  # long after it was decided
    assert (question.allowed, question.reason, question.lapsed) == (True, "so decided", False)
    assert (board.open_on_disk(tmp_path, "run"), board.fate(tmp_path, WEIRD)) == ([], "answered")
    assert refused == ([] if second else [board.not_open(WEIRD).failure.message] * 2)
    assert left(tmp_path) == []


async def test_an_answer_is_not_kept_out_by_another_whose_writer_was_killed(tmp_path: Path) -> None:
    mine, question = posted(tmp_path)
    with anyio.fail_after(PATIENCE_SECS):
        words = [sys.executable, "-c", KILLED_AS_IT_WRITES, str(tmp_path), WEIRD]
        killed = await anyio.run_process(words, check=False)
        assert killed.returncode == -signal.SIGXFSZ
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(board.deliver, tmp_path, WEIRD, allowed=True, reason="so decided"))
            await answer_left(tmp_path)
            mine.look(question)
            assert (question.allowed, question.reason) == (True, "so decided")
            mine.close(question)


@pytest.mark.parametrize("end", ["lapsed", "ended"])
async def test_an_answer_whose_question_is_given_up_meanwhile_is_an_error(tmp_path: Path, end: str) -> None:
    mine, question = posted(tmp_path)
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                await answer_left(tmp_path)
                if end == "lapsed":
                    question.lapse("the time is over")
                    mine.close(question)
                else:
                    mine.end()

            tasks.start_soon(give_up)
            with pytest.raises(ClinvkError, match="not open any more"):
                await board.deliver(tmp_path, WEIRD, allowed=True, reason="so decided")
    assert left(tmp_path) == []


async def test_a_question_whose_driver_is_gone_is_not_open(tmp_path: Path) -> None:
    posted(tmp_path)
    path = tmp_path / "questions.json"
    state = json.loads(path.read_bytes())
    path.write_text(json.dumps({**state, "start": state["start"] + 1}), encoding="utf-8")  # its pid is another's now
    assert (board.open_on_disk(tmp_path, "run"), board.fate(tmp_path, WEIRD)) == ([], "lapsed")
    with pytest.raises(ClinvkError, match="not open any more"):
        await board.deliver(tmp_path, WEIRD, allowed=True, reason="so decided")
    assert left(tmp_path) == []


@pytest.mark.parametrize("state", ["", "[]", "{", '{"pid": 1}', '{"pid": "1", "start": 0}'])
def test_what_is_no_board_shows_nothing(tmp_path: Path, state: str) -> None:
    (tmp_path / "questions.json").write_text(state, encoding="utf-8")
    assert (board.open_on_disk(tmp_path, "run"), board.fate(tmp_path, WEIRD)) == ([], None)


@pytest.mark.parametrize(
    "damaged",
    [None, [], "open", {}, {"x": None}, {"x": {}}, {"x": {"fate": ["open"]}}, {"x": {"fate": "open", "tool": 1}}],
)
def test_what_is_damaged_on_the_board_of_a_living_driver_is_passed_over(tmp_path: Path, damaged: object) -> None:
    posted(tmp_path)
    path = tmp_path / "questions.json"
    state = json.loads(path.read_bytes())
    path.write_text(json.dumps({**state, "questions": damaged}), encoding="utf-8")
    assert (board.open_on_disk(tmp_path, "run"), board.fate(tmp_path, WEIRD)) == ([], None)
    board.fate(tmp_path, "x")
    if isinstance(damaged, dict):
        path.write_text(json.dumps({**state, "questions": {**damaged, **state["questions"]}}), encoding="utf-8")
        assert [each.question_id for each in board.open_on_disk(tmp_path, "run")] == [WEIRD]


async def test_a_driver_that_cannot_show_its_question_still_has_it(tmp_path: Path) -> None:
    mine, question = posted(tmp_path / "gone")
    mine.look(question)
    mine.close(question)
    assert not question.answered.is_set()
