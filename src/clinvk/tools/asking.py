"""Puts the questions of running agents to the person behind a call."""

import anyio

from clinvk.errors import ClinvkError
from clinvk.events import ApprovalAsked, Event
from clinvk.executor.live import LiveRun
from clinvk.executor.questions import Question
from clinvk.tools.caller import Caller, QuestionPending


async def done(live: LiveRun, caller: Caller) -> None:
    """Wait for the end of a run, answering meanwhile what it and its children ask.

    Raises: QuestionPending where the door can only ask after its call has returned.
    """
    if not caller.can_ask:
        await live.done.wait()
        return
    pending: list[Question] = []
    async with anyio.create_task_group() as tasks:

        async def put(run: LiveRun, question_id: str) -> None:
            question = run.questions.get(question_id)
            if question is None or question.answered.is_set():
                return
            if caller.ask is None:
                pending.append(question)
                tasks.cancel_scope.cancel()
                return
            allowed, reason = await caller.ask(question)
            question.answer(allowed=allowed, reason=reason)

        def hear(run_id: str, _backend: str, event: Event) -> None:
            run = next((each for each in _family(live) if each.record.id == run_id), None)
            if isinstance(event, ApprovalAsked) and run is not None:
                tasks.start_soon(put, run, event.question_id)

        with live.heard_by(hear):
            for run in _family(live):
                for question_id in run.questions:
                    tasks.start_soon(put, run, question_id)
            await live.done.wait()
        tasks.cancel_scope.cancel()
    if pending and not live.done.is_set():
        raise QuestionPending(pending[0])


def open_questions(live: LiveRun) -> list[Question]:
    """What the run and its children ask right now."""
    every = [question for run in _family(live) for question in run.questions.values()]
    return [question for question in every if not question.answered.is_set()]


def _family(live: LiveRun) -> list[LiveRun]:
    return [live, *live.children]


def answer(live: LiveRun, question_id: str, *, allowed: bool, reason: str) -> None:
    """Answer an open question. Raises ClinvkError(invalid_request) when there is none of that id any more."""
    for run in _family(live):
        question = run.questions.get(question_id)
        if question is not None:
            question.answer(allowed=allowed, reason=reason)
            return
    raise ClinvkError("invalid_request", f"question {question_id!r} is not open any more: it was answered or given up")
