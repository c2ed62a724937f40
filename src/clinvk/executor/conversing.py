"""The conversation with an interactive command: its prompt, its questions, the answers of a person."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from clinvk.backends.base import InteractiveReader
from clinvk.events import ApprovalAnswered, ApprovalAsked, Event
from clinvk.executor.live import LiveRun
from clinvk.executor.questions import Question
from clinvk.executor.reading import Reading
from clinvk.executor.stdin import Stdin

EXCUSE_SECS = 0.25  # while a person thinks, the command is not stalled; shorter than any sensible stall limit


@asynccontextmanager
async def conversing(stdin: Stdin, first: bytes, reading: Reading, live: LiveRun) -> AsyncGenerator[None]:
    """Give the command `first`, then the answers to what it asks, until it is finished or the scope ends."""
    reader = reading.reader
    assert isinstance(reader, InteractiveReader)
    async with anyio.create_task_group() as tasks:

        def hear(run_id: str, backend: str, event: Event) -> None:
            if isinstance(event, ApprovalAsked) and run_id == live.record.id:
                question = Question(run_id, event.question_id, backend, event.tool, event.action)
                live.questions[event.question_id] = question
                tasks.start_soon(answer, question)

        async def excuse() -> None:
            while True:
                live.excuse()
                await anyio.sleep(EXCUSE_SECS)

        async def answer(question: Question) -> None:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(excuse)
                await question.decision()
                waiting.cancel_scope.cancel()
            allowed = question.allowed
            live.questions.pop(question.question_id, None)
            reading.take([ApprovalAnswered(question.question_id, allowed, question.reason)])
            await stdin.write(reader.reply(question.question_id, allowed=allowed, reason=question.reason))

        def look() -> None:
            if reader.finished:
                stdin.close()

        reading.after_feed = look
        tasks.start_soon(stdin.write, first)
        with live.heard_by(hear):
            yield
        for question in list(live.questions.values()):
            question.answer(allowed=False, reason="the run ended")
        tasks.cancel_scope.cancel()
