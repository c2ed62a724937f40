"""Puts the questions of running agents to the person behind a call."""

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from clinvk.errors import ClinvkError
from clinvk.events import ApprovalAsked, Event
from clinvk.executor import board
from clinvk.executor.live import LiveRun
from clinvk.executor.questions import Question
from clinvk.tools.app import App
from clinvk.tools.caller import Ask, Caller, QuestionPending
from clinvk.tools.settle import settled

LOOK_SECS = 0.1  # how often a run that another process drives is looked at


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


async def heeding(app: App, run_id: str, caller: Caller, until: Callable[[], Awaitable[None]]) -> None:
    """`until` is over; meanwhile the caller's person is asked what a run asks that another process drives.

    Raises: QuestionPending where the door can only ask after its call has returned; what `until` raises.
    """
    if not caller.can_ask:
        await until()
        return
    failed: ClinvkError | None = None
    elsewhere = _Elsewhere(app, run_id, caller)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(elsewhere.look, tasks)
        try:
            await until()
        except ClinvkError as error:
            failed = error  # the task group would wrap it
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    if elsewhere.pending is not None and settled(app, run_id).status == "running":
        raise QuestionPending(elsewhere.pending)


class _Elsewhere:
    """Asks what a run of another process asks; `pending` is what can only be asked once the call has returned."""

    def __init__(self, app: App, run_id: str, caller: Caller) -> None:
        self.pending: Question | None = None
        self._app = app
        self._run_id = run_id
        self._caller = caller
        self._asked: dict[str, Question] = {}

    async def look(self, tasks: TaskGroup) -> None:
        """Ask what is new, and take back what is not open any more, until cancelled."""
        while True:
            now = {f"{each.run_id} {each.question_id}": each for each in open_questions(self._app, self._run_id)}
            for name in self._asked.keys() - now.keys():
                self._asked.pop(name).lapse("somebody else answered, or it was given up")
            for name in now.keys() - self._asked.keys():
                if self._caller.ask is None:
                    self.pending = now[name]
                    tasks.cancel_scope.cancel()
                    return
                self._asked[name] = now[name]
                tasks.start_soon(self._put, self._caller.ask, name, now[name])
            await anyio.sleep(LOOK_SECS)

    async def _put(self, ask: Ask, name: str, question: Question) -> None:
        allowed, reason = await ask(question)
        if question.answered.is_set():
            return
        try:
            await decide(self._app, question, allowed=allowed, reason=reason)
        except ClinvkError as error:  # given up meanwhile: the result says that it was refused
            if error.failure.code == "timeout":  # its driver took no answer: if it is still open, it is asked again
                self._asked.pop(name, None)


def open_questions(app: App, run_id: str) -> list[Question]:
    """What the run and its children ask right now, whichever process drives them."""
    live = app.executor.live.get(run_id)
    if live is None:
        family = (run_id, *app.runs.children(run_id))
        return [question for member in family for question in board.open_on_disk(app.runs.path(member), member)]
    every = [question for run in _family(live) for question in run.questions.values()]
    return [question for question in every if not question.answered.is_set()]


async def decide(app: App, question: Question, *, allowed: bool, reason: str) -> None:
    """Answer a question, whichever process drives its run; only the first answer counts.

    Raises: ClinvkError(invalid_request, timeout, internal) for an answer that could not be delivered.
    """
    live = app.executor.live.get(question.run_id)
    mine = None if live is None else live.questions.get(question.question_id)
    if mine is not None:
        mine.answer(allowed=allowed, reason=reason)
        return
    await board.deliver(app.runs.path(question.run_id), question.question_id, allowed=allowed, reason=reason)


def check_taken(app: App, run_id: str, question_id: str) -> None:
    """Raises ClinvkError(invalid_request) for a question that was given up; not for one that was answered before."""
    live = app.executor.live.get(run_id)
    is_open = live is not None and question_id in live.questions
    if not is_open and board.fate(app.runs.path(run_id), question_id) == "lapsed":
        raise board.not_open(question_id)


def _family(live: LiveRun) -> list[LiveRun]:
    return [live, *live.children]
