"""Puts what an agent asks to the person at the terminal."""

import sys
from collections.abc import Awaitable, Callable

import anyio

from clinvk.cli import terminal
from clinvk.executor.questions import Question


class Person:
    """One question at a time; `make_room` takes away what else is on the screen."""

    def __init__(self, make_room: Callable[[], Awaitable[None]]) -> None:
        self._make_room = make_room
        self._asking = anyio.Lock()

    @property
    def is_asked(self) -> bool:
        """Whether a question stands on the screen, where nothing else may be drawn then."""
        return self._asking.locked()

    async def ask(self, question: Question) -> tuple[bool, str]:
        """Whether the action is allowed, and who says so; all but a plain yes is a no."""
        async with self._asking:
            await self._make_room()
            action = terminal.printable(question.action)
            sys.stderr.write(f"{question.backend} asks to use {question.tool}:\n  {action}\nAllow it? [y/N] ")
            sys.stderr.flush()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_take_back, question)
                    await anyio.wait_readable(sys.stdin)
                    tasks.cancel_scope.cancel()
            except anyio.get_cancelled_exc_class():
                sys.stderr.write("\n")  # what comes next stands on a line of its own
                raise
            allowed = sys.stdin.readline().strip().lower() in ("y", "yes")
            return allowed, f"{'allowed' if allowed else 'refused'} at the terminal"


async def _take_back(question: Question) -> None:
    """Say that an answer does not count any more; Enter is waited for, lest it answer the next question."""
    await question.answered.wait()
    sys.stderr.write(f"\n{question.reason}; press Enter to go on\n")
    sys.stderr.flush()
