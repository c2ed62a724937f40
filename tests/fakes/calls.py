"""Operations as a caller in the workdir makes them, with a bound on every wait."""

from typing import Any

import anyio
import pytest

from clinvk.errors import ClinvkError, Failure
from clinvk.request import ChainRequest, CompareRequest, ParallelRequest, PromptRequest
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult
from clinvk.tools import chain, compare, parallel, prompt
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from fakes import agent
from fakes.world import PATIENCE_SECS, World


async def ask(app: App, world: World, text: str, caller: Caller | None = None, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, **options})
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, caller or world.caller())
    assert isinstance(result, PromptResult)
    return result


async def refusal(app: App, world: World, text: str = "hi", **options: Any) -> Failure:
    """Why a prompt is refused; nothing may have been started or recorded."""
    before = app.runs.ids()
    with pytest.raises(ClinvkError) as refused:
        await ask(app, world, text, **options)
    assert app.runs.ids() == before
    return refused.value.failure


def task(*steps: agent.Step, backend: str = "claude", **more: Any) -> dict[str, Any]:
    return {"prompt": agent.prompt(*steps), "backend": backend, **more}


async def in_parallel(app: App, world: World, *tasks: dict[str, Any], **more: Any) -> ParallelResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = ParallelRequest.model_validate({"tasks": tasks, **more})
        result = await parallel.parallel(app, request, world.caller())
    assert isinstance(result, ParallelResult)
    return result


async def chained(app: App, world: World, *steps: dict[str, Any], **more: Any) -> ChainResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = ChainRequest.model_validate({"steps": steps, **more})
        result = await chain.chain(app, request, world.caller())
    assert isinstance(result, ChainResult)
    return result


async def compared(app: App, world: World, **more: Any) -> CompareResult:
    with anyio.fail_after(PATIENCE_SECS):
        request = CompareRequest.model_validate({"prompt": "which?", **more})
        result = await compare.compare(app, request, world.caller())
    assert isinstance(result, CompareResult)
    return result
