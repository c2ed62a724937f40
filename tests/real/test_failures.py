"""What goes wrong between a CLI and its model: the right code, what happened, what to do, and what was said so far."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from real.clients import BACKENDS, Answered, Clinvk, Json, Mode, Place, Transport, connected, place
from standin.script import Answer, Garbage, HttpError, Recorded, Reply
from standin.server import refusing, serving

pytestmark = pytest.mark.anyio

BACKEND = {"anthropic": "claude", "openai": "codex", "gemini": "gemini"}
USED_UP = {
    "claude": HttpError(400, message="Your credit balance is too low to access the Anthropic API."),
    "codex": HttpError(429, body={"error": {"type": "usage_limit_reached", "message": "The usage limit is reached"}}),
    "gemini": HttpError(
        429,
        body={
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "You exceeded your current quota.",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                    }
                ],
            }
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What the model does, and what a caller must be told."""

    reply: Reply
    code: str
    retryable: bool
    says: dict[str, str]
    hint: str


def everyone(text: str) -> dict[str, str]:
    return dict.fromkeys(BACKENDS, text)


ANSWERED_BADLY = "try again"
CASES = {
    "key": Case(
        HttpError(401, message="invalid x-api-key"),
        "auth_required",
        False,
        {"claude": "Invalid API key", "codex": "401 Unauthorized: invalid x-api-key", "gemini": "invalid x-api-key"},
        "_API_KEY",
    ),
    "model": Case(
        HttpError(404, message="model: nope"),
        "model_unknown",
        False,
        {"claude": "issue with the selected model", "codex": "model: nope", "gemini": "model: nope"},
        "your account has",
    ),
    "rate": Case(
        HttpError(429, retry_after=2),
        "rate_limited",
        True,
        everyone("Too Many Requests"),
        "wait, or run fewer prompts",
    ),
    "server": Case(
        HttpError(500),
        "backend_error",
        True,
        {"claude": "500 Internal Server Error", "codex": "high demand", "gemini": "Internal Server Error"},
        ANSWERED_BADLY,
    ),
    "empty": Case(Answer(""), "output_unreadable", False, everyone("gave no answer"), ANSWERED_BADLY),
}
PARTIAL = {
    "cut": Case(
        Answer("Half an answer.", deltas=2, broken="cut"),
        "backend_error",
        True,
        {"claude": "Connection to the API was lost", "codex": "stream disconnected", "gemini": "terminated"},
        ANSWERED_BADLY,
    ),
    "no_end": Case(
        Answer("Half an answer.", broken="no_end"),
        "backend_error",
        True,
        {"claude": "lost mid-response", "codex": "stream disconnected", "gemini": "without a finish reason"},
        ANSWERED_BADLY,
    ),
}


@pytest.fixture(scope="module")
def transport() -> tuple[Transport, Mode]:
    return "http", "legacy"


def told(answer: Answered) -> Json:
    """The error of a failed run, which the result, its text and the protocol agree upon."""
    error: Json = answer.result["error"]
    assert answer.is_error
    assert answer.result["status"] == "failed"
    assert answer.result["partial"] == bool(answer.result["output"])
    assert answer.text.startswith(f"{error['code']}: {error['message']}\nHint: {error['hint']}")
    assert error["backend"] == answer.result["backend"]
    assert answer.result["run_id"] in answer.text
    return error


@pytest.mark.parametrize("name", [*CASES, *PARTIAL])
async def test_a_failure_of_the_model_is_told_as_what_it_is(clinvk: Clinvk, name: str) -> None:
    case = CASES.get(name) or PARTIAL[name]
    clinvk.plays(case.reply)
    answers = await clinvk.everywhere(f"Fail: {name}.")
    errors = {backend: told(answer) for backend, answer in answers.items()}
    assert {backend: (error["code"], error["retryable"]) for backend, error in errors.items()} == dict.fromkeys(
        BACKENDS, (case.code, case.retryable)
    )
    for backend, error in errors.items():
        assert case.says[backend] in error["message"]
        assert case.hint in error["hint"]
    if name in CASES:
        assert [answer.result["output"] for answer in answers.values()] == ["", "", ""]
    if name == "no_end":
        assert [answer.result["output"] for answer in answers.values()] == ["Half an answer."] * 3


async def test_a_plan_that_is_used_up_is_no_rate_limit(clinvk: Clinvk) -> None:
    def refuse(request: Recorded) -> Reply:
        assert request.api is not None
        return USED_UP[BACKEND[request.api]]

    clinvk.plays(reply_to=refuse)
    errors = {backend: told(answer) for backend, answer in (await clinvk.everywhere("Pay.")).items()}
    assert [(error["code"], error["retryable"]) for error in errors.values()] == [("quota_exhausted", False)] * 3
    assert "redit balance is too low" in errors["claude"]["message"]
    assert "usage limit" in errors["codex"]["message"]
    assert "daily quota" in errors["gemini"]["message"]


async def test_a_page_of_html_is_no_answer(clinvk: Clinvk) -> None:
    clinvk.plays(Garbage())
    answers = await clinvk.everywhere("Portal?")
    assert [told(answer)["code"] for answer in answers.values()] == ["backend_error"] * 3
    assert [answer.result["output"] for answer in answers.values()] == [""] * 3


async def test_a_model_that_never_answers_ends_at_the_deadline_of_the_call(clinvk: Clinvk) -> None:
    clinvk.plays(Answer(hold="before"))
    answers = await clinvk.everywhere("Hang.", timeout_secs=3)
    for answer in answers.values():
        error = told(answer)
        assert (error["code"], error["message"], error["retryable"]) == ("timeout", "no result within 3 s", True)
        assert "raise timeout_secs" in error["hint"]


async def test_after_all_failures_the_same_server_still_answers(clinvk: Clinvk) -> None:
    clinvk.plays(Answer("Well again."))
    answers = await clinvk.everywhere("And now?")
    assert [answer.result["output"] for answer in answers.values()] == ["Well again."] * 3


async def test_an_api_that_refuses_connections_is_an_error_that_may_pass(tmp_path: Path) -> None:
    with serving() as standin, refusing() as url:
        where = place(tmp_path / "place", standin, url=url)
        async with connected(where) as clinvk:
            answers = await clinvk.everywhere("Anybody there?")
    errors = {backend: told(answer) for backend, answer in answers.items()}
    assert [(error["code"], error["retryable"]) for error in errors.values()] == [("backend_error", True)] * 3


async def test_a_silent_model_is_noticed_and_what_it_said_is_kept(tmp_path: Path) -> None:
    """With a stall limit long enough for any CLI to start and to say its first words, on a busy machine as well."""
    with serving() as standin:
        where: Place = place(tmp_path / "place", standin, limits={"stall_secs": 25.0})
        async with connected(where) as clinvk:
            clinvk.plays(Answer("Once upon a time.", deltas=2, hold="middle"))
            answers = await clinvk.everywhere("Tell me a story.")
    errors = [told(answer) for answer in answers.values()]
    assert [(error["code"], error["retryable"]) for error in errors] == [("stalled", True)] * 3
    # Codex shows an answer only when it is whole.
    assert {name: answer.result["output"] for name, answer in answers.items()} == {
        "claude": "Once upon",
        "codex": "",
        "gemini": "Once upon",
    }
