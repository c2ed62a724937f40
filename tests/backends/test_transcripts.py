"""What each reader makes of what the pinned CLIs really printed (tests/transcripts)."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from clinvk.backends import registry
from clinvk.backends.base import Turn
from clinvk.events import (
    Ending,
    Event,
    Outcome,
    PermissionDenied,
    Reasoning,
    Retrying,
    SessionStarted,
    TextDelta,
    TextEnd,
    TokenUsage,
    ToolFinished,
    ToolStarted,
    to_json,
)

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
GARBAGE = (
    b"",
    b"   ",
    b"WARN: something on stdout",
    b"{",
    b"[]",
    b"null",
    b"42",
    b'"text"',
    b"{}",
    b'{"type": null}',
    b'{"type": ["result"]}',
    b'{"type": "something_new", "message": {"content": 5}}',
    b"\xff\xfe{\x00",
    b'{"type": "message", "role": "assistant", "content": null}',
    b"[" * 100_000,
)

Kind = TypeVar("Kind", bound=Event)
PLAIN = "The answer is 42. ✓ Grüße\nSecond line."
ANSWERS: dict[str, str] = {
    "default_model": "The answer is 42.",
    "denied_tool": "I was not allowed to.",
    "plain": PLAIN,
    "rate_limited_once": "The answer is 42.",
    "resumed": "Second, with all of the first in mind.",
    "server_error_once": "The answer is 42.",
    "thinking": "42, I think.",
    "tools": "Both files are there.",
}
COMMON: dict[str, str | None] = {
    "bad_flag": "backend_changed",
    "bad_request": "backend_error",
    "cut": "backend_error",
    "default_model": None,
    "denied_tool": None,
    "empty": "output_unreadable",
    "error_event": "backend_error",
    "forbidden": "auth_required",
    "garbage": "backend_error",
    "logged_out": "auth_required",
    "model_unknown": "model_unknown",
    "no_end": "backend_error",
    "plain": None,
    "quota_exhausted": "quota_exhausted",
    "rate_limited": "rate_limited",
    "refused": "backend_error",
    "resumed": None,
    "server_error": "backend_error",
    "thinking": None,
    "tools": None,
    "unauthorized": "auth_required",
    "unknown_session": "session_lost",
    "unknown_session_of_none": "session_lost",
}
EXPECTED: dict[str, dict[str, str | None]] = {
    "claude": COMMON
    | {
        "interrupted": "backend_error",
        "max_budget": "budget_exceeded",
        "max_tokens": "backend_error",
        "max_turns": "budget_exceeded",
        "overloaded": "overloaded",
        "rate_limited_long": "rate_limited",
        "rate_limited_once": None,
        "refusal": None,  # the CLI asks again, and the model then answers
        "server_error_once": None,
        "structured": None,
        "terminated": "backend_error",
        "unstructured": None,
    },
    "codex": COMMON
    | {
        "error_event": "overloaded",
        "interrupted": "backend_error",
        "max_tokens": "backend_error",
        "refusal": "output_unreadable",
        "server_error_once": None,
        "structured": None,
        "terminated": "backend_error",
        "unavailable": "overloaded",
    },
    "gemini": COMMON
    | {
        "interrupted": "output_unreadable",
        "max_tokens": None,  # the CLI gives no sign of it
        "max_turns": "budget_exceeded",
        "rate_limited_long": "rate_limited",
        "refusal": None,
        "terminated": "output_unreadable",
        "unavailable": "overloaded",
    },
}
CASES = [(backend, case) for backend, cases in EXPECTED.items() for case in cases]
SUCCESSES = [(backend, case) for backend, case in CASES if EXPECTED[backend][case] is None]
TRANSIENT = {"cut", "error_event", "no_end", "overloaded", "rate_limited", "refused", "server_error", "unavailable"}


def transient(backend: str, case: str) -> bool:
    """Codex cannot tell a body that is no stream from a stream that ended too early."""
    return case.removesuffix("_long") in TRANSIENT or (backend, case) == ("codex", "garbage")


@dataclass(frozen=True)
class Recording:
    """One recorded run."""

    lines: tuple[bytes, ...]
    ending: Ending
    resumed: str | None

    def turn(self, case: str) -> Turn:
        return Turn(
            prompt="What is the answer to the ultimate question?",
            workdir=Path("/TMP/work"),
            scratch=Path("/TMP/scratch"),
            new_id="a5d0f1c7-1b67-58f2-984d-a1f85b7384c8",
            resume_id=self.resumed,
            usage_before=TokenUsage(input_tokens=120, output_tokens=7, cached_tokens=20, reasoning_tokens=3),
            output_schema=SCHEMA if case == "structured" else None,
        )


@cache
def recording(backend: str, case: str) -> Recording:
    folder = TRANSCRIPTS / backend / case
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    code: int = meta["exit_code"]
    return Recording(
        lines=tuple((folder / "stdout.jsonl").read_bytes().splitlines()),
        ending=Ending(
            reason="exited",
            exit_code=code if code >= 0 else 128 - code,
            stderr_tail=(folder / "stderr.txt").read_text(encoding="utf-8"),
        ),
        resumed=_resumed(meta["argv"]),
    )


def _resumed(argv: list[str]) -> str | None:
    for index, word in enumerate(argv):
        if word.startswith("--resume="):
            return word.removeprefix("--resume=")
        if word in ("--resume", "resume"):
            return argv[index + 1]
    return None


def read(backend: str, case: str, lines: tuple[bytes, ...]) -> tuple[list[Event], Outcome]:
    recorded = recording(backend, case)
    reader = registry.get(backend).reader(recorded.turn(case))
    events = [event for line in lines for event in reader.feed(line)]
    return events, reader.outcome(recorded.ending)


def played(backend: str, case: str) -> tuple[list[Event], Outcome]:
    return read(backend, case, recording(backend, case).lines)


def messages(events: list[Event]) -> list[str]:
    """The assistant messages, by the one rule of clinvk.events."""
    found = [""]
    for event in events:
        match event:
            case TextDelta(text):
                found[-1] += text
            case TextEnd() | ToolStarted() | ToolFinished():
                found.append("")
            case _:
                pass
    return [message for message in found if message]


def of(events: list[Event], kind: type[Kind]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def test_every_recorded_case_is_expected_and_every_expected_one_recorded() -> None:
    recorded = {(path.parent.name, path.name) for path in TRANSCRIPTS.glob("*/*") if path.is_dir()}
    assert recorded == set(CASES)


def test_every_backend_but_the_built_in_one_is_recorded() -> None:
    assert set(EXPECTED) == set(registry.BACKENDS) - {registry.BUILT_IN}
    assert all(set(COMMON) <= set(cases) for cases in EXPECTED.values())


@pytest.mark.parametrize(("backend", "case"), CASES)
def test_a_recorded_run_is_judged_as_it_went(backend: str, case: str) -> None:
    _, outcome = played(backend, case)
    code = outcome.failure.code if outcome.failure else None
    assert code == EXPECTED[backend][case], outcome.failure
    if outcome.failure:
        assert outcome.failure.backend == backend
        assert outcome.failure.message
        assert outcome.failure.hint
        assert outcome.failure.retryable == transient(backend, case), outcome.failure


@pytest.mark.parametrize(("backend", "case"), [each for each in CASES if each[1] in ANSWERS])
def test_the_last_message_is_the_answer(backend: str, case: str) -> None:
    events, outcome = played(backend, case)
    assert (outcome.text or messages(events)[-1]) == ANSWERS[case]


@pytest.mark.parametrize(("backend", "case"), CASES)
def test_lines_that_are_no_events_change_nothing(backend: str, case: str) -> None:
    clean = played(backend, case)
    dirty = tuple(each for line in recording(backend, case).lines for each in (*GARBAGE, line))
    assert read(backend, case, dirty + GARBAGE) == clean


@pytest.mark.parametrize(("backend", "case"), SUCCESSES)
def test_a_run_cut_off_at_any_line_is_no_success(backend: str, case: str) -> None:
    recorded = recording(backend, case)
    for kept in range(len(recorded.lines) - 1):
        _, outcome = read(backend, case, recorded.lines[:kept])
        assert outcome.failure is not None, f"success after {kept} of {len(recorded.lines)} lines"


@pytest.mark.parametrize(("backend", "case"), SUCCESSES)
def test_no_success_without_exit_code_0(backend: str, case: str) -> None:
    recorded = recording(backend, case)
    reader = registry.get(backend).reader(recorded.turn(case))
    for line in recorded.lines:
        reader.feed(line)
    assert reader.outcome(Ending(reason="exited", exit_code=1)).failure is not None


@pytest.mark.parametrize(("backend", "case"), CASES)
def test_events_can_be_sent_as_json(backend: str, case: str) -> None:
    events, _ = played(backend, case)
    for event in events:
        json.dumps(to_json(event), allow_nan=False).encode("utf-8")


@pytest.mark.parametrize("backend", EXPECTED)
def test_the_session_is_named_first_and_in_the_outcome(backend: str) -> None:
    events, outcome = played(backend, "resumed")
    assert isinstance(events[0], SessionStarted)
    assert events[0].backend_session_id == outcome.backend_session_id == recording(backend, "resumed").resumed


@pytest.mark.parametrize("backend", EXPECTED)
def test_another_session_than_the_asked_one_is_a_failure_that_names_both(backend: str) -> None:
    recorded = recording(backend, "plain")
    turn = Turn(prompt="x", workdir=Path("/w"), scratch=Path("/s"), new_id="n", resume_id="the-asked-one")
    reader = registry.get(backend).reader(turn)
    for line in recorded.lines:
        reader.feed(line)
    outcome = reader.outcome(recorded.ending)
    assert outcome.failure is not None
    assert outcome.failure.code == "session_lost"
    assert "the-asked-one" in outcome.failure.message
    assert outcome.backend_session_id is not None
    assert outcome.backend_session_id in outcome.failure.message


USAGES = {
    "claude": TokenUsage(input_tokens=120, output_tokens=7, cached_tokens=20, reasoning_tokens=0),
    "codex": TokenUsage(input_tokens=120, output_tokens=7, cached_tokens=20, reasoning_tokens=3),
    "gemini": TokenUsage(input_tokens=120, output_tokens=7, cached_tokens=20),
}


@pytest.mark.parametrize("case", ["plain", "resumed"])
@pytest.mark.parametrize("backend", EXPECTED)
def test_usage_is_that_of_the_turn_and_cached_tokens_are_counted_once(backend: str, case: str) -> None:
    _, outcome = played(backend, case)
    assert outcome.usage == USAGES[backend]


def test_codex_hands_on_the_total_of_the_thread() -> None:
    _, outcome = played("codex", "resumed")
    assert outcome.native_usage == TokenUsage(input_tokens=240, output_tokens=14, cached_tokens=40, reasoning_tokens=6)


def test_codex_does_not_guess_a_turns_usage_without_the_total_before() -> None:
    recorded = recording("codex", "resumed")
    turn = Turn(prompt="x", workdir=Path("/w"), scratch=Path("/s"), new_id="n", resume_id=recorded.resumed)
    reader = registry.get("codex").reader(turn)
    for line in recorded.lines:
        reader.feed(line)
    assert reader.outcome(recorded.ending).usage == TokenUsage()


def test_claude_tells_the_cost_of_this_run_alone() -> None:
    _, first = played("claude", "plain")
    _, second = played("claude", "resumed")
    assert first.cost_usd == second.cost_usd
    assert first.cost_usd is not None
    assert first.cost_usd > 0


MODELS = {"claude": "claude-sonnet-5", "codex": None, "gemini": "gemini-3.8-flash"}


@pytest.mark.parametrize("backend", EXPECTED)
def test_the_model_that_ran_is_told_where_the_cli_tells_it(backend: str) -> None:
    _, outcome = played(backend, "plain")
    assert outcome.model == MODELS[backend]


@pytest.mark.parametrize("backend", ["claude", "codex"])
def test_a_structured_answer_is_parsed(backend: str) -> None:
    _, outcome = played(backend, "structured")
    assert outcome.structured_output == {"answer": 42}


def test_claude_without_the_structured_answer_it_was_asked_for_has_failed() -> None:
    recorded = recording("claude", "unstructured")
    turn = Turn(prompt="x", workdir=Path("/w"), scratch=Path("/s"), new_id="n", output_schema=SCHEMA)
    reader = registry.get("claude").reader(turn)
    for line in recorded.lines:
        reader.feed(line)
    failure = reader.outcome(recorded.ending).failure
    assert failure is not None
    assert failure.code == "output_unreadable"
    assert "output_schema" in failure.message


@pytest.mark.parametrize("backend", ["codex", "gemini"])
def test_an_answer_that_is_not_the_asked_for_json_has_failed(backend: str) -> None:
    recorded = recording(backend, "plain")
    turn = Turn(prompt="x", workdir=Path("/w"), scratch=Path("/s"), new_id="n", output_schema=SCHEMA)
    reader = registry.get(backend).reader(turn)
    for line in recorded.lines:
        reader.feed(line)
    outcome = reader.outcome(recorded.ending)
    assert outcome.failure is not None
    assert outcome.failure.code == "output_unreadable"
    assert outcome.structured_output is None


@pytest.mark.parametrize("backend", ["claude", "gemini"])
def test_a_denied_action_completes_the_run_with_a_warning_that_names_it(backend: str) -> None:
    events, outcome = played(backend, "denied_tool")
    (denied,) = of(events, PermissionDenied)
    assert "forbidden.txt" in denied.action
    assert [warning for warning in outcome.warnings if "forbidden.txt" in warning and denied.tool in warning]
    assert [finished.ok for finished in of(events, ToolFinished)] == [False]


@pytest.mark.parametrize("backend", EXPECTED)
def test_tools_are_told_with_what_they_do_and_pair_up(backend: str) -> None:
    events, _ = played(backend, "tools")
    started, finished = of(events, ToolStarted), of(events, ToolFinished)
    assert len(started) == 2
    assert {each.tool_id: each.name for each in started} == {each.tool_id: each.name for each in finished}
    assert all(each.ok for each in finished)
    assert "made.txt" in started[0].detail
    assert "written.txt" in started[1].detail


@pytest.mark.parametrize("backend", ["claude", "codex"])
def test_reasoning_is_told_apart_from_the_answer(backend: str) -> None:
    events, _ = played(backend, "thinking")
    assert of(events, Reasoning)
    assert messages(events) == ["42, I think."]


@pytest.mark.parametrize(("backend", "case"), [("claude", "rate_limited"), ("codex", "cut")])
def test_retries_are_told(backend: str, case: str) -> None:
    events, _ = played(backend, case)
    retries = of(events, Retrying)
    assert retries
    assert retries[0].attempt == 1
    assert retries[0].max_attempts is not None


@pytest.mark.parametrize("backend", EXPECTED)
def test_a_refused_flag_is_named(backend: str) -> None:
    _, outcome = played(backend, "bad_flag")
    assert outcome.failure is not None
    assert "such-flag" in outcome.failure.details["flag"]
    assert "update" in (outcome.failure.hint or "")


def test_an_api_error_in_words_is_not_shown_as_claudes_answer() -> None:
    events, _ = played("claude", "server_error")
    assert messages(events) == []
