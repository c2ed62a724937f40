"""What no recording shows: hostile output, bounded memory, and the odd turns of each CLI."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinvk.backends import registry
from clinvk.backends.base import Turn
from clinvk.events import (
    Ending,
    Event,
    PermissionDenied,
    Retrying,
    TextDelta,
    TextEnd,
    ToolFinished,
    ToolStarted,
    Warned,
    to_json,
)

Make = Callable[..., Turn]
CLEAN = Ending(reason="exited", exit_code=0)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

KEYS = st.sampled_from(
    [
        "type",
        "subtype",
        "message",
        "content",
        "text",
        "delta",
        "event",
        "item",
        "id",
        "name",
        "role",
        "status",
        "error",
        "usage",
        "result",
        "session_id",
        "thread_id",
        "tool_use_id",
        "tool_id",
        "tool_name",
        "input",
        "parameters",
        "permission_denials",
        "is_error",
        "stats",
        "models",
        "output",
        "code",
        "severity",
        "mcp_servers",
        "changes",
        "aggregated_output",
        "exit_code",
        "model_usage_since_last_result",
        "api_error_status",
        "errors",
    ]
)
WORDS = st.sampled_from(
    [
        "system",
        "init",
        "assistant",
        "user",
        "result",
        "stream_event",
        "message_start",
        "content_block_delta",
        "text_delta",
        "message_stop",
        "tool_use",
        "tool_result",
        "item.started",
        "item.completed",
        "turn.completed",
        "turn.failed",
        "thread.started",
        "agent_message",
        "command_execution",
        "message",
        "error",
        "success",
        "started",
        "text",
        "api_retry",
        "permission_denied",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
EVENTS = st.dictionaries(KEYS, JSON, max_size=6).flatmap(
    lambda rest: WORDS.map(lambda kind: json.dumps({**rest, "type": kind}).encode())
)


def fed(name: str, turn: Turn, *lines: object, ending: Ending = CLEAN) -> tuple[list[Event], Any]:
    reader = registry.get(name).reader(turn)
    events: list[Event] = []
    for line in lines:
        events += reader.feed(line if isinstance(line, bytes) else json.dumps(line).encode())
    return events, reader.outcome(ending)


def text(events: list[Event]) -> str:
    return "".join(event.text if isinstance(event, TextDelta) else "|" for event in events if _is_text(event))


def _is_text(event: Event) -> bool:
    return isinstance(event, TextDelta | TextEnd)


@pytest.mark.parametrize("name", list(registry.BACKENDS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(lines=st.lists(st.binary(max_size=200) | EVENTS, max_size=12), code=st.integers(0, 255))
def test_no_output_makes_a_reader_raise(name: str, lines: list[bytes], code: int, turn: Make) -> None:
    for asked in (turn(), turn(output_schema=SCHEMA, resume_id="r")):
        events, outcome = fed(name, asked, *lines, ending=Ending(reason="exited", exit_code=code))
        for event in events:
            json.dumps(to_json(event), allow_nan=False).encode("utf-8")
        if outcome.failure is None:
            assert code == 0
            assert outcome.backend_session_id == "r" or asked.resume_id is None


@pytest.mark.parametrize("reason", ["timeout", "stalled", "cancelled", "interrupted", "output_limit", "disk_full"])
@pytest.mark.parametrize("name", list(registry.BACKENDS))
def test_a_run_that_was_stopped_is_no_success_whatever_was_read(name: str, reason: Any, turn: Make) -> None:
    _, outcome = fed(name, turn(), *COMPLETE[name], ending=Ending(reason=reason, exit_code=0))
    assert outcome.failure is not None
    assert outcome.failure.backend == name
    assert fed(name, turn(), *COMPLETE[name])[1].failure is None


def claude_text(words: str, identity: str = "m1") -> list[object]:
    start = {"type": "message_start", "message": {"id": identity, "model": "claude-x"}}
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": words}}
    return [{"type": "stream_event", "event": each} for each in (start, delta, {"type": "message_stop"})]


def claude_result(**fields: object) -> dict[str, object]:
    return {"type": "result", "subtype": "success", "is_error": False, "session_id": "s", **fields}


COMPLETE: dict[str, list[object]] = {
    "claude": [*claude_text("hi"), claude_result(result="hi")],
    "codex": [
        {"type": "thread.started", "thread_id": "s"},
        {"type": "item.completed", "item": {"id": "1", "type": "agent_message", "text": "hi"}},
        {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 1}},
    ],
    "gemini": [
        {"type": "init", "session_id": "s", "model": "auto"},
        {"type": "message", "role": "assistant", "content": "hi", "delta": True},
        {"type": "result", "status": "success", "stats": {}},
    ],
    "offline": [
        {"type": "started", "session": "s"},
        {"type": "text", "text": "hi"},
        {"type": "result", "ok": True},
    ],
}
PIECES: dict[str, Callable[[str], list[object]]] = {
    "claude": lambda words: claude_text(words)[1:2],
    "codex": lambda words: [{"type": "item.completed", "item": {"type": "agent_message", "text": words}}],
    "gemini": lambda words: [{"type": "message", "role": "assistant", "content": words, "delta": True}],
    "offline": lambda words: [{"type": "text", "text": words}],
}


@pytest.mark.parametrize("name", list(registry.BACKENDS))
def test_memory_does_not_grow_with_the_answer(name: str, turn: Make) -> None:
    reader = registry.get(name).reader(turn())
    (piece,) = PIECES[name]("x" * 10_000)
    line = json.dumps(piece).encode()
    reader.feed(line)
    tracemalloc.start()
    for _ in range(2_000):
        reader.feed(line)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000, f"{grown:,} bytes kept of 20,000,000"


@pytest.mark.parametrize("name", ["codex", "gemini", "offline"])
def test_an_endless_structured_answer_is_given_up(name: str, turn: Make) -> None:
    start, _, end = COMPLETE[name]
    (piece,) = PIECES[name]("1" * 5_000_000)
    _, outcome = fed(name, turn(output_schema=SCHEMA), start, piece, end)
    assert outcome.failure.code == "output_unreadable"
    assert "4,194,304" in outcome.failure.message


@pytest.mark.parametrize("name", ["codex", "gemini", "offline"])
@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\n```json\n{"a": 1}\n```\n', {"a": 1}),
        ('{"a": "one"}', None),
        ("{}", None),
        ('The answer: {"a": 1}', None),
        ('{"a": NaN}', None),
    ],
)
def test_only_an_answer_that_fits_the_schema_is_one(name: str, answer: str, value: object, turn: Make) -> None:
    start, _, end = COMPLETE[name]
    _, outcome = fed(name, turn(output_schema=SCHEMA), start, *PIECES[name](answer), end)
    assert outcome.structured_output == value
    assert (outcome.failure is None) == (value is not None)


def test_text_that_cannot_be_encoded_is_replaced(turn: Make) -> None:
    lines = [b'{"type":"message","role":"assistant","content":"a\\ud800b \\ud83d\\ude00"}']
    events, _ = fed("gemini", turn(), *lines)
    assert text(events) == "a?b 😀"


def test_claude_a_broken_stream_and_the_whole_answer_after_it_are_two_messages(turn: Make) -> None:
    whole = {"type": "assistant", "message": {"id": "m2", "content": [{"type": "text", "text": "Hello there."}]}}
    events, outcome = fed("claude", turn(), *claude_text("Hel")[:2], whole, claude_result(result="Hello there."))
    assert text(events) == "Hel|Hello there.|"
    assert outcome.failure is None


def test_claude_a_streamed_message_is_not_told_twice(turn: Make) -> None:
    whole = {"type": "assistant", "message": {"id": "m1", "content": [{"type": "text", "text": "Hi."}]}}
    start, delta, stop = claude_text("Hi.")
    events, _ = fed("claude", turn(), start, delta, whole, stop, claude_result(result="Hi."))
    assert text(events) == "Hi.|"


def test_claude_an_answer_that_came_in_no_message_is_the_answer(turn: Make) -> None:
    events, outcome = fed("claude", turn(), claude_result(result="Total cost: $0"))
    assert text(events) == "Total cost: $0|"
    assert outcome.failure is None


def test_claude_both_text_blocks_of_a_message_are_kept(turn: Make) -> None:
    start, one, stop = claude_text("One ")
    two = claude_text("two")[1]
    events, outcome = fed("claude", turn(), start, one, two, stop, claude_result(result="two"))
    assert text(events) == "One two|"
    assert outcome.text is None


def test_claude_the_text_of_a_subagent_is_no_answer_but_its_tools_are_told(turn: Make) -> None:
    empty: dict[str, object] = {}
    content: list[object] = [
        {"type": "text", "text": "inner"},
        {"type": "tool_use", "id": "t", "name": "Read", "input": empty},
    ]
    inner: dict[str, object] = {
        "type": "assistant",
        "parent_tool_use_id": "p",
        "message": {"id": "m9", "content": content},
    }
    streamed: dict[str, object] = {
        "type": "stream_event",
        "parent_tool_use_id": "p",
        "event": {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "inner"}},
    }
    events, _ = fed("claude", turn(), streamed, inner)
    assert events == [ToolStarted("t", "Read", "")]


def test_claude_success_needs_both_the_subtype_and_no_error(turn: Make) -> None:
    for result in (claude_result(is_error=True, result="boom"), claude_result(subtype="error_during_execution")):
        assert fed("claude", turn(), *claude_text("hi"), result)[1].failure is not None


def test_claude_a_run_that_ended_at_a_denial_is_blocked(turn: Make) -> None:
    denial = {"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "rm -rf build"}}
    events, outcome = fed(
        "claude",
        turn(),
        *claude_text("hi"),
        claude_result(permission_denials=[denial], result="hi"),
        ending=Ending(reason="exited", exit_code=1),
    )
    assert PermissionDenied("Bash", "rm -rf build") in events
    assert outcome.failure.code == "permission_blocked"
    assert "rm -rf build" in outcome.failure.message


def test_claude_a_full_sandbox_for_root_is_refused_and_not_a_changed_cli(turn: Make) -> None:
    stderr = "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons\n"
    ending = Ending(reason="exited", exit_code=1, stderr_tail=stderr)
    _, outcome = fed("claude", turn(sandbox="full"), ending=ending)
    assert outcome.failure.code == "unsupported_option"
    assert outcome.failure.details == {"option": "sandbox_mode", "value": "full"}
    assert "IS_SANDBOX=1" in outcome.failure.hint


def test_claude_cached_input_is_part_of_the_input(turn: Make) -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 3_000,
        "output_tokens": 5,
    }
    _, outcome = fed("claude", turn(), claude_result(result="x", usage=usage))
    assert (outcome.usage.input_tokens, outcome.usage.cached_tokens) == (3_210, 200)


def test_claude_a_resumed_runs_cost_is_not_the_total_of_the_conversation(turn: Make) -> None:
    total = claude_result(result="x", total_cost_usd=9.0)
    assert fed("claude", turn(), total)[1].cost_usd == 9.0
    assert fed("claude", turn(resume_id="s"), total)[1].cost_usd is None
    models = {"a": {"costUSD": 1.0}, "b": {"costUSD": 0.5}}
    this_run = claude_result(result="x", total_cost_usd=9.0, model_usage_since_last_result=models)
    assert fed("claude", turn(resume_id="s"), this_run)[1].cost_usd == 1.5


def test_claude_a_broken_mcp_server_is_a_warning(turn: Make) -> None:
    init = {"type": "system", "subtype": "init", "session_id": "s", "mcp_servers": [{"name": "db", "status": "failed"}]}
    events, outcome = fed("claude", turn(), init)
    assert Warned("MCP server db did not start") in events
    assert outcome.warnings == ("MCP server db did not start",)


def test_codex_an_error_line_alone_fails_nothing_but_is_the_reason_when_the_run_fails(turn: Make) -> None:
    error = {"type": "error", "message": "Reconnecting... 2/5 (stream disconnected)"}
    events, outcome = fed("codex", turn(), error, *COMPLETE["codex"])
    assert events[0] == Retrying("Reconnecting... 2/5 (stream disconnected)", attempt=2, max_attempts=5)
    assert outcome.failure is None
    _, outcome = fed("codex", turn(), error, ending=Ending(reason="exited", exit_code=1))
    assert outcome.failure.message == "Reconnecting... 2/5 (stream disconnected)"


def test_codex_a_command_that_the_sandbox_refused_is_a_denial(turn: Make) -> None:
    item = {
        "id": "1",
        "type": "command_execution",
        "command": "touch /etc/x",
        "aggregated_output": "touch: cannot touch '/etc/x': Read-only file system\n",
        "exit_code": 1,
        "status": "failed",
    }
    line = {"type": "item.completed", "item": item}
    events, outcome = fed("codex", turn(sandbox="read-only"), line, *COMPLETE["codex"])
    assert PermissionDenied("shell", "touch /etc/x") in events
    assert outcome.failure is None
    assert outcome.warnings == ("permission denied: shell: touch /etc/x",)
    events, _ = fed("codex", turn(sandbox="full"), line)
    assert not [event for event in events if isinstance(event, PermissionDenied)]


def test_codex_a_rejected_patch_is_told_from_stderr(turn: Make) -> None:
    stderr = "2026 ERROR codex_core::tools::router: error=patch rejected: writing is blocked by read-only sandbox\n"
    _, outcome = fed(
        "codex", turn(), *COMPLETE["codex"], ending=Ending(reason="exited", exit_code=0, stderr_tail=stderr)
    )
    assert outcome.warnings == (
        "permission denied: apply_patch: patch rejected: writing is blocked by read-only sandbox",
    )


def test_codex_a_tool_that_only_ends_is_told_from_its_start(turn: Make) -> None:
    item = {"id": "7", "type": "web_search", "query": "weather"}
    events, _ = fed("codex", turn(), {"type": "item.completed", "item": item})
    assert events == [
        ToolStarted("7", "web_search", "weather"),
        ToolFinished("7", "web_search", True, "weather"),
    ]


def test_gemini_an_error_event_fails_a_run_that_says_it_succeeded(turn: Make) -> None:
    error = {"type": "error", "severity": "error", "message": "Loop detected"}
    _, outcome = fed("gemini", turn(), error, *COMPLETE["gemini"])
    assert outcome.failure.message == "Loop detected"
    warning = {"type": "error", "severity": "warning", "message": "Loop detected"}
    _, outcome = fed("gemini", turn(), warning, *COMPLETE["gemini"])
    assert outcome.failure is None
    assert outcome.warnings == ("Loop detected",)


def test_gemini_the_answering_model_is_told_and_not_the_one_that_routes(turn: Make) -> None:
    models = {"router": {"output_tokens": 3}, "big": {"output_tokens": 300}}
    result = {"type": "result", "status": "success", "stats": {"models": models}}
    assert fed("gemini", turn(), *COMPLETE["gemini"][:2], result)[1].model == "big"
    assert fed("gemini", turn(model="router"), *COMPLETE["gemini"][:2], result)[1].model == "router"


def test_details_and_notes_are_bounded(turn: Make) -> None:
    long = {"type": "tool_use", "tool_id": "t", "tool_name": "x", "parameters": {"command": "y" * 100_000}}
    (started,) = fed("gemini", turn(), long)[0]
    assert isinstance(started, ToolStarted)
    assert len(started.detail) == 2_000
    warnings = [{"type": "error", "severity": "warning", "message": f"w{number}"} for number in range(500)]
    _, outcome = fed("gemini", turn(), *warnings)
    assert len(outcome.warnings) == 51
    assert outcome.warnings[-1] == "and 450 more"


VIOLATION = (
    "2026-11-28T10:01:32Z  WARN codex_sandboxing::violation: recorded sandbox violation: resource=filesystem "
    "backend=linux_sandbox reason=read_only_file_system path=unknown\n"
)


@pytest.mark.parametrize(
    ("refused", "warned"),
    [
        (1, []),
        (2, ["permission denied: shell: a command that Codex did not name (read only file system)"]),
        (3, ["permission denied: shell: 2 commands that Codex did not name (read only file system)"]),
    ],
)
def test_codex_commands_that_were_refused_at_once_are_counted(turn: Make, refused: int, warned: list[str]) -> None:
    named = {"id": "1", "type": "command_execution", "command": "touch a", "exit_code": 1, "status": "failed"}
    named["aggregated_output"] = "touch: a: Read-only file system"
    ending = Ending(reason="exited", exit_code=0, stderr_tail=VIOLATION * refused)
    line = {"type": "item.completed", "item": named}
    _, outcome = fed("codex", turn(sandbox="read-only"), line, *COMPLETE["codex"], ending=ending)
    assert outcome.failure is None
    assert list(outcome.warnings) == ["permission denied: shell: touch a", *warned]


@pytest.mark.parametrize(
    ("delays", "told"), [((548, 1112), None), ((2104, 2325), 2.325), ((1010,), 1.01)], ids=["own", "asked", "once"]
)
def test_claude_hands_on_how_long_the_service_asked_it_to_wait(
    turn: Make, delays: tuple[int, ...], told: float | None
) -> None:
    retries = [
        {"type": "system", "subtype": "api_retry", "attempt": number, "retry_delay_ms": delay, "error_status": 429}
        for number, delay in enumerate(delays, 1)
    ]
    result = {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 429, "result": "slow down"}
    _, outcome = fed("claude", turn(), *retries, result, ending=Ending(reason="exited", exit_code=1))
    assert (outcome.failure.code, outcome.failure.retry_after_secs) == ("rate_limited", told)


def test_an_answer_under_a_name_that_is_not_known_is_no_success_without_text(turn: Make) -> None:
    renamed = {"type": "item.completed", "item": {"id": "1", "type": "assistant_message", "text": "42"}}
    begun, _, ended = COMPLETE["codex"]
    _, outcome = fed("codex", turn(), begun, renamed, ended)
    assert outcome.failure.code == "output_unreadable"


def test_a_gemini_run_that_gave_up_is_no_success(turn: Make) -> None:
    begun, text, ended = COMPLETE["gemini"]
    gave_up = {"type": "error", "severity": "warning", "message": "Loop detected, stopping execution"}
    events, outcome = fed("gemini", turn(), begun, text, gave_up, ended)
    assert (outcome.failure.code, outcome.failure.message) == ("backend_error", "Loop detected, stopping execution")
    assert TextDelta("hi") in events
