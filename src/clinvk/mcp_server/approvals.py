"""Puts the questions of running agents to the person behind an MCP client that supports elicitation.

Until 2025-11-25 the server asks while the call waits. From 2026-07-28 on it may not: the call returns with the
questions, and the client repeats it with the answers. What is neither allowed nor refused is refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp_types import ClientCapabilities, ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from clinvk.executor.questions import ANSWER_SECS, Question
from clinvk.mcp_server.texts import Result
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult, RunsResult
from clinvk.tools.caller import Ask, Caller

Way = Literal["live", "later"]

_FIELD = "allow"
_RUN = "run_id"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        _FIELD: {"type": "boolean", "title": "Allow", "description": "true: do it once; false: refuse"},
    },
    "required": [_FIELD],
}


class Resuming(Protocol):
    """What a call needs to go on that returned before its run had ended."""

    def family(self, run_id: str) -> str:
        """The run that a client was told of, for one of its children; itself when it is no child."""
        ...

    def questions(self, run_id: str) -> Sequence[Question]:
        """What the run and its children ask right now."""
        ...

    async def decide(self, question: Question, *, allowed: bool, reason: str) -> None:
        """Answer a question. Raises ClinvkError for an answer that could not be delivered."""
        ...

    async def rejoin(self, run_id: str, wait_secs: float | None, caller: Caller) -> Result:
        """Wait for the run again. Raises QuestionPending when it asks something else."""
        ...


def way(context: Context[Any, Any]) -> Way | None:
    """How the client's user can be asked, None when they cannot."""
    if not has_forms(context.client_capabilities):
        return None
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return "later"
    return "live" if context.session.can_send_request else None


def has_forms(capabilities: ClientCapabilities | None) -> bool:
    """Whether the client shows forms; one that names no mode does, by the specification."""
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def form(question: Question) -> ElicitRequestFormParams:
    """The question as the client's user sees it."""
    message = f"{question.backend} asks to use {question.tool} (run {question.run_id}):\n\n{question.action}"
    return ElicitRequestFormParams(message=visible(message), requested_schema=_SCHEMA)


def visible(text: str) -> str:
    """`text` in which nothing can hide: control, bidirectional and other unprintable characters are escaped."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def decision(answer: ElicitResult) -> tuple[bool, str]:
    """Whether the action is allowed, and what the agent is told."""
    if answer.action == "accept" and (answer.content or {}).get(_FIELD) is True:
        return True, "the user allowed it"
    if answer.action == "cancel":
        return False, "the user dismissed the question"
    return False, "the user refused it"


def asking(context: Context[Any, Any]) -> Ask:
    """Asks within the call, for clients that can be asked while it waits."""

    async def ask(question: Question) -> tuple[bool, str]:
        decided = False, "the question was given up"

        async def given_up() -> None:
            await question.answered.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(given_up)
            decided = await _asked(context, question)
            tasks.cancel_scope.cancel()
        return decided

    return ask


async def _asked(context: Context[Any, Any], question: Question) -> tuple[bool, str]:
    shown = form(question)
    try:
        answer = await context.session.elicit_form(shown.message, shown.requested_schema, context.request_id)
    except MCPError as error:
        return False, f"the user could not be asked: {error}"
    except ValueError:
        return False, "the user could not be asked: what the client sent back is no answer"
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return False, "the client left"
    return decision(answer)


def key(question: Question) -> str:
    """The name of a question in a call's answer; unique over all runs."""
    return f"{question.run_id}.{question.question_id}"


def requests(questions: Sequence[Question]) -> dict[str, ElicitRequest]:
    """The questions as the client is given them."""
    return {key(question): ElicitRequest(params=form(question)) for question in questions}


def postponed(question: Question, resuming: Resuming) -> InputRequiredResult:
    """The answer of a call that cannot go on before its client has asked."""
    run_id = resuming.family(question.run_id)
    return InputRequiredResult(
        input_requests={**requests(resuming.questions(run_id))}, request_state=json.dumps({_RUN: run_id})
    )


async def answered(context: Context[Any, Any], resuming: Resuming) -> str | None:
    """The run that a repeated call goes on with, its answers given; None for a call that begins one.

    The SDK has sealed the state: it is as we made it. Questions that were given up meanwhile are passed over: its
    result says what was refused. Raises ClinvkError for an answer that could not be delivered.
    """
    run_id = run_of(context.request_state)
    if run_id is not None:
        await answer(resuming, resuming.questions(run_id), context.input_responses or {})
    return run_id


async def answer(resuming: Resuming, questions: Sequence[Question], responses: Mapping[str, object]) -> None:
    """Decide the questions that have a response; the others stay open.

    Raises: ClinvkError for an answer that could not be delivered.
    """
    for question in questions:
        response = responses.get(key(question))
        if isinstance(response, ElicitResult):
            allowed, reason = decision(response)
            await resuming.decide(question, allowed=allowed, reason=reason)


def note(result: BaseModel, resuming: Resuming) -> None:
    """Tell the caller of a run that goes on what it waits for."""
    told = result.result if isinstance(result, RunsResult) else result
    if not isinstance(told, PromptResult | ParallelResult | ChainResult | CompareResult) or told.status != "running":
        return
    told.warnings += [
        f"waits for a person to allow {visible(f'{each.tool}: {each.action}')}; `runs` with action wait asks where the "
        f"client supports elicitation; without an answer it is refused after {ANSWER_SECS:g} s"
        for each in resuming.questions(told.run_id)
    ]


def run_of(state: str | None) -> str | None:
    """The run in the state of a postponed call."""
    return json.loads(state)[_RUN] if state is not None else None
