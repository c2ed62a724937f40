"""What an action or an agent could not use is refused by name, before anything is done."""

from typing import Any

import pytest
from pydantic import BaseModel

from clinvk.errors import ClinvkError
from clinvk.gateway.anthropic import MessagesRequest
from clinvk.gateway.calls import ChainCall, CompareCall, ParallelCall, PromptCall
from clinvk.gateway.chat import ChatOptions
from clinvk.gateway.openai import ChatCompletionRequest, StreamOptions
from clinvk.request import (
    ChainRequest,
    CompareRequest,
    ParallelRequest,
    ParallelTask,
    PromptRequest,
    RunsRequest,
    SessionsRequest,
)
from clinvk.tools import prompt, runs, sessions
from clinvk.tools.faults import validated
from fakes.world import World

pytestmark = pytest.mark.anyio

REQUESTS: tuple[type[BaseModel], ...] = (
    *(PromptRequest, ParallelRequest, ParallelTask, ChainRequest, CompareRequest),
    *(SessionsRequest, RunsRequest, ChatOptions, ChatCompletionRequest, StreamOptions, MessagesRequest),
    *(PromptCall, ParallelCall, ChainCall, CompareCall),
)


def fields(*kinds: str) -> list[tuple[type[BaseModel], str]]:
    """Every field that takes one of these kinds of values."""
    found: list[tuple[type[BaseModel], str]] = []
    for model in REQUESTS:
        for name, about in model.model_json_schema()["properties"].items():
            if {each.get("type") for each in [about, *about.get("anyOf", ())]} & set(kinds):
                found.append((model, name))
    return found


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(("model", "field"), fields("integer", "number"))
def test_a_number_is_no_true_or_false(model: type[BaseModel], field: str, flag: bool) -> None:
    with pytest.raises(ClinvkError) as refused:
        validated(model, {field: flag})
    assert f"{field} is {str(flag).lower()}; it must be a number" in refused.value.failure.message


@pytest.mark.parametrize("number", [1, 0, 1.0])
@pytest.mark.parametrize(("model", "field"), fields("boolean"))
def test_true_and_false_are_no_numbers(model: type[BaseModel], field: str, number: float) -> None:
    with pytest.raises(ClinvkError) as refused:
        validated(model, {field: number})
    assert f"{field} is {number}; it must be true or false" in refused.value.failure.message


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"action": "show", "session_id": "x", "query": "y"}, "query"),
        ({"action": "list", "session_id": "x"}, "session_id"),
        ({"action": "list", "workdir": "."}, "workdir"),
    ],
)
async def test_a_field_that_a_reading_of_sessions_would_pass_over_is_refused(
    world: World, asked: dict[str, Any], field: str
) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await sessions.sessions(app, SessionsRequest.model_validate(asked))
    assert (refused.value.failure.code, refused.value.failure.details["field"]) == ("invalid_request", field)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"action": "status", "run_id": "x", "backend": "claude"}, "backend"),
        ({"action": "list", "run_id": "x"}, "run_id"),
        ({"action": "list", "workdir": "work"}, "workdir"),
        ({"action": "status", "run_id": "x", "limit": 5}, "limit"),
        ({"action": "wait", "run_id": "x", "offset": 5}, "offset"),
    ],
)
async def test_a_field_that_a_reading_of_runs_would_pass_over_is_refused(
    world: World, asked: dict[str, Any], field: str
) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await runs.runs(app, RunsRequest.model_validate(asked), world.caller())
    assert (refused.value.failure.code, refused.value.failure.details["field"]) == ("invalid_request", field)


async def test_an_unknown_backend_is_no_filter(world: World) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await runs.runs(app, RunsRequest(action="list", backend="cluade"), world.caller())
    assert refused.value.failure.code == "backend_unknown"


async def test_what_is_no_json_schema_is_refused_before_an_agent_runs(world: World) -> None:
    async with world.app() as app:
        request = PromptRequest(prompt="hi", backend="claude", output_schema={"type": "nonsense"})
        with pytest.raises(ClinvkError) as refused:
            await prompt.prompt(app, request, world.caller())
    assert refused.value.failure.details == {"field": "output_schema"}
    assert world.calls() == []
