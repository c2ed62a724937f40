"""New and resumed turns of every backend, over both transports."""

import itertools
import re

import pytest

from clinvk.backends import structured
from real.clients import BACKENDS, Clinvk, Json, Mode, Transport
from standin.environment import MODELS
from standin.script import Answer, Usage
from standin.server import conversation, texts_sent

pytestmark = pytest.mark.anyio

USAGE = Usage(input=120, cached=20, output=7, reasoning=3)
LATER_USAGE = Usage(input=300, cached=200, output=11, reasoning=5)


@pytest.fixture(scope="module", params=[("stdio", "auto"), ("http", "auto")], ids="-".join)
def transport(request: pytest.FixtureRequest) -> tuple[Transport, Mode]:
    chosen: tuple[Transport, Mode] = request.param
    return chosen


def tokens(backend: str, usage: Usage) -> Json:
    """What a backend reports of a scripted usage; cached tokens are part of the input."""
    # Claude's API does not tell how much of the output was thinking; Gemini CLI tells the output without the thoughts.
    reasoning = {"claude": 0, "codex": usage.reasoning, "gemini": None}
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_tokens": usage.cached,
        "reasoning_tokens": reasoning[backend],
    }


def completed(backend: str, output: str, usage: Usage) -> Json:
    """The result of a turn, but for what differs each time."""
    return {
        "status": "completed",
        "backend": backend,
        "model": MODELS[backend],
        "output": output,
        "output_truncated": False,
        "output_chars": len(output),
        "structured_output": None,
        "partial": False,
        "exit_code": 0,
        "token_usage": tokens(backend, usage),
        "stop_reason": "end_turn" if backend == "claude" else None,
        "warnings": [],
        "error": None,
    }


def lasting(result: Json) -> Json:
    """A result without what differs each time."""
    changing = {"run_id", "session_id", "duration_ms", "cost_usd"}
    assert changing <= set(result)
    return {name: value for name, value in result.items() if name not in changing}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_turn_is_answered_and_the_next_one_continues_it(clinvk: Clinvk, backend: str) -> None:
    clinvk.plays(Answer("First. Grüße ✓", usage=USAGE), Answer("Second.", usage=LATER_USAGE))
    first = await clinvk.prompt("One? Ünï ✓", backend, system_prompt="Speak of ducks.", sandbox_mode="read-only")
    second = await clinvk.prompt("Two?", backend, session_id=first.result["session_id"])

    assert lasting(first.result) == completed(backend, "First. Grüße ✓", USAGE)
    assert lasting(second.result) == completed(backend, "Second.", LATER_USAGE)
    assert second.result["session_id"] == first.result["session_id"] != ""
    assert second.result["run_id"] != first.result["run_id"]
    assert (first.text.startswith("First. Grüße ✓\n"), first.is_error, second.is_error) == (True, False, False)
    asked, continued = clinvk.standin.questions
    assert (asked.model, continued.model) == (MODELS[backend], MODELS[backend])
    [opening] = texts_sent(asked)
    assert opening.strip().endswith("One? Ünï ✓")
    assert [(role, text.strip()[-14:]) for role, text in conversation(continued)][:2] == [
        ("user", "One? Ünï ✓"[-14:]) if backend != "gemini" else ("user", opening.strip()[-14:]),
        ("assistant", "First. Grüße ✓"),
    ]
    assert texts_sent(continued)[-1].strip().endswith("Two?")
    for question in (asked, continued):
        assert "Speak of ducks." in str(question.body)


async def test_every_result_fits_its_schema_and_progress_never_goes_back(clinvk: Clinvk) -> None:
    clinvk.plays(Answer("Fine.", thinking="Hm.", deltas=1))
    answers = await clinvk.everywhere("Well?")
    schemas = {tool.name: tool.output_schema for tool in (await clinvk.client.list_tools()).tools}
    for backend, answer in answers.items():
        assert structured.misfit(answer.result, schemas["prompt"] or {}) == ""
        for _, message in answer.progress:
            said = re.fullmatch(rf"{backend} · (queued \d+s|running \d+s · (.*))", message)
            assert said, message
            assert said[2] in (None, "started", "thinking: Hm.", "Fine.", "completed")
        reached = [moment for moment, _ in answer.progress]
        assert all(before < after for before, after in itertools.pairwise(reached))
