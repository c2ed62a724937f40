"""Runs as tasks: the id of a task is that of its run, so it is kept, found and ended as runs are.

Any server on the same home answers for a task, also after the one that began it was killed.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
from mcp.server.context import CallNext, HandlerResult
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
)

from clinvk.errors import ClinvkError
from clinvk.executor.questions import Question
from clinvk.executor.runs import RunStore
from clinvk.mcp_server import approvals, tool
from clinvk.mcp_server.tasks import RequestContext, Support, Task
from clinvk.request import CancelRequest
from clinvk.response import PromptResult
from clinvk.tools import asking, runs, settle, waiting
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.cut import cut
from clinvk.tools.retention import task_secs
from clinvk.tools.settle import Result

POLL_MS = 1_000  # agents take minutes
CANCEL_SECS = 1.0  # a cancel is acknowledged after this time at most; the run ends by itself
MESSAGE_CHARS = 200
_TOOLS = frozenset(settle.RESULTS)


class RunResuming:
    """Finds and rejoins runs, whichever process drives them; satisfies `Resuming`."""

    def __init__(self, app: App) -> None:
        self._app = app

    def family(self, run_id: str) -> str:
        return self._app.runs.record(run_id).parent_id or run_id

    def questions(self, run_id: str) -> Sequence[Question]:
        return asking.open_questions(self._app, run_id)

    async def decide(self, question: Question, *, allowed: bool, reason: str) -> None:
        await asking.decide(self._app, question, allowed=allowed, reason=reason)

    async def rejoin(self, run_id: str, wait_secs: float | None, caller: Caller) -> Result:
        return await waiting.rejoined(self._app, run_id, wait_secs, caller)


class RunTasks:
    """The tools that make runs make tasks; satisfies `Backing`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._resuming = RunResuming(app)

    def support(self, tool: str) -> Support:
        return "optional" if tool in _TOOLS else "none"

    async def begin(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> Task | HandlerResult:
        """Call the tool; without `wait_secs` it does not wait. A run that has not ended then is a task."""
        given = params.arguments or {}
        if given.get("wait_secs") is None:
            params.arguments = {**given, "wait_secs": 0}  # the SDK hands these very params to the tool
        result = await call_next(ctx)
        run_id = _unfinished(result)
        task = await self.get(run_id) if run_id is not None else None
        return task or result

    async def get(self, task_id: str) -> Task | None:
        """The run as a task; a result that is delivered counts as read."""
        if not self._exists(task_id):  # what has ended is remembered, also when another process removed it
            return None
        try:
            result = settle.current(self._app, task_id)
        except ClinvkError as error:
            if error.failure.code == "run_not_found":
                return None
            return self._task(task_id, "failed", error=ErrorData(code=INTERNAL_ERROR, message=error.failure.message))
        if result.status == "running":
            return self._unended(task_id, result)
        self._app.runs.mark_read(task_id)
        if result.status == "cancelled":
            message = f'what it wrote until then: runs {{"action": "status", "run_id": "{task_id}"}}'
            return self._task(task_id, "cancelled", message=message)
        cut(result, self._app.config.output.max_chars)
        return self._task(task_id, "completed", result=tool.answer(result))

    def _unended(self, run_id: str, result: Result) -> Task:
        questions = self._resuming.questions(run_id)
        if questions:
            asked = "; ".join(f"{each.tool}: {each.action}" for each in questions)
            return self._task(
                run_id,
                "input_required",
                message=approvals.visible(asked)[:MESSAGE_CHARS],
                requests=approvals.requests(questions),
            )
        return self._task(run_id, "working", message=_how_far(result))

    def _task(self, run_id: str, status: Any, **more: Any) -> Task:
        secs = task_secs(self._app.config.limits)
        created_at = self._app.runs.record(run_id).created_at
        with suppress(ClinvkError):  # the disk is full: better an answer than none
            self._app.runs.mark(run_id, "task")
        return Task(
            task_id=run_id,
            status=status,
            created_at=created_at,
            updated_at=max(created_at, self._changed_at(run_id)),
            ttl_ms=None if secs is None else round(secs * 1000),
            poll_ms=POLL_MS,
            **more,
        )

    def _changed_at(self, run_id: str) -> float:
        for name in ("result.json", "events.jsonl", "children", "request.json"):
            try:
                return (self._app.runs.path(run_id) / name).stat().st_mtime
            except OSError:
                continue
        return 0.0

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> bool:
        """Decide what the run asks, whichever process drives it.

        Raises ValueError for an answer that is none, and ClinvkError for one that could not be delivered: its question
        was given up, or nobody takes it. One to a question that was answered before is passed over.
        """
        if not self._exists(task_id):
            return False
        questions = self._resuming.questions(task_id)
        known = {approvals.key(question) for question in questions}
        given = {name: ElicitResult.model_validate(raw) for name, raw in responses.items() if name in known}
        await approvals.answer(self._resuming, questions, given)
        for name in responses.keys() - known:
            run_id, _, question_id = name.partition(".")
            if run_id in (task_id, *self._app.runs.children(task_id)):
                asking.check_taken(self._app, run_id, question_id)
        return True

    async def cancel(self, task_id: str) -> bool:
        """Stop the run, whichever process drives it."""
        if not self._exists(task_id):
            return False
        with anyio.move_on_after(CANCEL_SECS):
            await runs.cancel(self._app, CancelRequest(run_id=task_id))
        return True

    def _exists(self, task_id: str) -> bool:
        return RunStore.is_id(task_id) and self._app.runs.path(task_id).is_dir()


def _unfinished(result: HandlerResult) -> str | None:
    """The run that a call left running, or waiting for a person."""
    if isinstance(result, InputRequiredResult):
        return approvals.run_of(result.request_state)
    content: object = result.structured_content if isinstance(result, CallToolResult) else None
    fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    return fields["run_id"] if fields.get("status") == "running" else None


def _how_far(result: Result) -> str | None:
    if isinstance(result, PromptResult):
        return " ".join(result.output.split())[-MESSAGE_CHARS:] or None
    return f"{sum(part.status == 'completed' for part in result.results)} of {len(result.results)} begun have completed"
