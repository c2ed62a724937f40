"""The conversation with an interactive command: its prompt, its questions, the answers of a person."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from clinvk.backends.base import InteractiveReader
from clinvk.events import ApprovalAnswered, ApprovalAsked, Event
from clinvk.executor.board import posting
from clinvk.executor.live import LiveRun
from clinvk.executor.questions import Question
from clinvk.executor.reading import Reading
from clinvk.executor.stdin import Stdin

# While a person thinks, the command is not stalled, and another process may leave the answer: this often both is seen
# to. Shorter than any sensible stall limit.
LOOK_SECS = 0.25


@asynccontextmanager
async def conversing(stdin: Stdin, reading: Reading, live: LiveRun) -> AsyncGenerator[None]:
    """Give the command the rest of its prompt, then the answers to what it asks, until it is finished."""
    reader = reading.reader
    assert isinstance(reader, InteractiveReader)
    async with AsyncExitStack() as stack:
        board = stack.enter_context(posting(reading.folder))
        tasks = await stack.enter_async_context(anyio.create_task_group())

        def hear(run_id: str, backend: str, event: Event) -> None:
            if isinstance(event, ApprovalAsked) and run_id == live.record.id:
                question = Question(run_id, event.question_id, backend, event.tool, event.action)
                live.questions[event.question_id] = question
                board.post(question)
                tasks.start_soon(answer, question)

        async def attend(question: Question) -> None:
            while True:
                live.excuse()
                board.look(question)
                await anyio.sleep(LOOK_SECS)

        async def answer(question: Question) -> None:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(attend, question)
                await question.decision()
                waiting.cancel_scope.cancel()
            allowed = question.allowed
            live.questions.pop(question.question_id, None)
            reading.take([ApprovalAnswered(question.question_id, allowed, question.reason)])
            await stdin.write(reader.reply(question.question_id, allowed=allowed, reason=question.reason))
            board.close(question)  # only now: who answered elsewhere waits for this

        def look() -> None:
            if reader.finished:
                stdin.close()

        reading.after_feed = look
        tasks.start_soon(stdin.write_rest)
        with live.heard_by(hear):
            yield
        for question in list(live.questions.values()):
            question.lapse("the run ended")
        tasks.cancel_scope.cancel()
