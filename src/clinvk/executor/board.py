"""What a running agent asks, on disk: any process on the same home can show it and answer it.

`questions.json` in the run's folder is kept by the process that talks with the agent. What stands there as open counts
only while that process lives: with it the agent loses its stdin, and refuses the action itself. An answer from another
process is a file beside it, taken by the driver; whoever left it waits until it was taken, or takes it back.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast, get_args

import anyio

from clinvk.errors import ClinvkError
from clinvk.executor.proctree import start_time
from clinvk.executor.questions import Question
from clinvk.files import TEMPORARY_SUFFIX, write_whole, writing

TAKE_SECS = 10.0  # for the driver to take an answer: it looks several times a second, on a busy machine too
LOOK_SECS = 0.05  # how often an answerer looks whether it was taken

Fate = Literal["open", "answered", "lapsed"]
FATES: tuple[Fate, ...] = get_args(Fate)


class Board:
    """The driver's side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asked: dict[str, dict[str, str | bool]] = {}

    def post(self, question: Question) -> None:
        """Show a question; where that cannot be written, only this process can have it answered."""
        self._asked[question.question_id] = {
            "fate": "open",
            "backend": question.backend,
            "tool": question.tool,
            "action": question.action,
        }
        self._save()

    def close(self, question: Question) -> None:
        """It was decided, or given up; an answer that comes later meets no question."""
        decided: dict[str, str | bool] = {"fate": "answered", "allowed": question.allowed}
        self._settle({question.question_id: {"fate": "lapsed"} if question.lapsed else decided})

    def end(self) -> None:
        """Nothing is decided any more: the agent has ended, or somebody else drives the run on."""
        self._settle({name: {"fate": "lapsed"} for name, asked in self._asked.items() if asked["fate"] == "open"})

    def _settle(self, settled: Mapping[str, dict[str, str | bool]]) -> None:
        if not settled:
            return
        self._asked.update(settled)
        self._save()
        for name in settled:
            with suppress(OSError):
                _answer(self._folder, name).unlink(missing_ok=True)

    def look(self, question: Question) -> None:
        """Take the answer that another process left, if there is one."""
        told = _read(_answer(self._folder, question.question_id))
        if isinstance(told.get("allowed"), bool):
            question.answer(allowed=told["allowed"], reason=str(told.get("reason", "")))

    def _save(self) -> None:
        me = os.getpid()
        data = {"pid": me, "start": start_time(me), "questions": self._asked}
        with suppress(ClinvkError):
            write_whole(self._folder / "questions.json", json.dumps(data).encode())


@contextmanager
def posting(folder: Path) -> Generator[Board]:
    """The board of a run for as long as somebody talks with its agent."""
    board = Board(folder)
    try:
        yield board
    finally:
        board.end()


def open_on_disk(folder: Path, run_id: str) -> list[Question]:
    """What the run asks right now."""
    state = _read(folder / "questions.json")
    if not _is_driven(state):
        return []
    return [
        Question(run_id, question_id, asked["backend"], asked["tool"], asked["action"])
        for question_id, asked in _asked(state).items()
        if asked["fate"] == "open" and all(isinstance(asked.get(name), str) for name in ("backend", "tool", "action"))
    ]


def fate(folder: Path, question_id: str) -> Fate | None:
    """What became of a question, None for one that was never asked."""
    state = _read(folder / "questions.json")
    found: Fate | None = _asked(state).get(question_id, {}).get("fate")
    return "lapsed" if found == "open" and not _is_driven(state) else found


async def deliver(folder: Path, question_id: str, *, allowed: bool, reason: str) -> None:
    """Answer a question of a run that another process drives; only the first answer counts.

    Raises: ClinvkError(invalid_request) when it is not open any more, or was decided otherwise, (timeout) when its
    driver does not take it, (internal) when the answer cannot be written.
    """
    path = _answer(folder, question_id)
    is_left = False
    if fate(folder, question_id) == "open":
        is_left = _leave(path, {"allowed": allowed, "reason": reason})
        with anyio.move_on_after(TAKE_SECS):
            while fate(folder, question_id) == "open":  # noqa: ASYNC110 - another process changes it
                await anyio.sleep(LOOK_SECS)
    if is_left:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    end = fate(folder, question_id)
    if end == "answered" and _decided(folder, question_id) in (allowed, None):
        return
    if end == "open":
        raise ClinvkError("timeout", f"the process that drives the run took no answer within {TAKE_SECS:g} s")
    raise not_open(question_id)


def not_open(question_id: str) -> ClinvkError:
    """The error of an answer that comes too late."""
    return ClinvkError(
        "invalid_request",
        f"question {question_id!r} is not open any more: it was answered or given up",
        hint="look at the run: what was not allowed in time was refused, and the agent went on without it",
    )


def _leave(path: Path, answer: dict[str, Any]) -> bool:
    """Leave the answer, all of it or nothing, whenever its writer is killed; False where another one is on its way."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    write_whole(beside, json.dumps(answer).encode())
    with writing(path), suppress(FileExistsError):
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: there the last of two answers stands
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink()
        return True
    return False


def _answer(folder: Path, question_id: str) -> Path:
    """Where the answer to a question is left; the id is the agent's, and may become no path."""
    return folder / f"answer-{hashlib.sha256(question_id.encode()).hexdigest()[:16]}.json"


def _is_driven(state: dict[str, Any]) -> bool:
    """Whether the process that asked still lives; a recycled pid does not count."""
    pid = state.get("pid")
    return isinstance(pid, int) and state.get("start") is not None and start_time(pid) == state["start"]


def _decided(folder: Path, question_id: str) -> bool | None:
    """What was decided, None where that is not known."""
    allowed = _asked(_read(folder / "questions.json")).get(question_id, {}).get("allowed")
    return allowed if isinstance(allowed, bool) else None


def _asked(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The questions of a board; what somebody damaged is passed over."""
    questions = state.get("questions")
    if not isinstance(questions, dict):
        return {}
    every = cast("dict[str, Any]", questions)
    return {name: asked for name, asked in every.items() if isinstance(asked, dict) and asked.get("fate") in FATES}  # pyright: ignore[reportUnknownMemberType]


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or not written to its end yet
        return {}
    return state if isinstance(state, dict) else {}  # pyright: ignore[reportUnknownVariableType]
