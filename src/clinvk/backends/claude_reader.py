"""Reads Claude Code's `--output-format stream-json --verbose --include-partial-messages`.

Text comes from the API's own stream events; a message that was not streamed (a fallback after a broken stream,
or one that the CLI wrote itself) comes whole. The `result` event decides, not its `subtype` and not the exit
code alone.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from clinvk.backends import failures
from clinvk.backends.base import Turn
from clinvk.backends.failures import Advice
from clinvk.backends.lines import (
    EMPTY,
    JsonObject,
    Notes,
    count_of,
    list_of,
    number_of,
    object_of,
    objects_of,
    parse,
    remember,
    shorten,
    text_of,
)
from clinvk.backends.permitting import DENIED
from clinvk.errors import Failure
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
    Warned,
)

ADVICE = Advice(
    backend="claude",
    title="Claude Code",
    log_in="run `claude` once and log in, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN",
    models="use opus, sonnet or haiku, or a full model name that your account has",
    update="update it with `claude update`",
)
# Its own back-off is half a second, doubled each time, and a quarter more at most; a longer one is the Retry-After.
BACK_OFF_SECS = 0.5 * 1.25 / 2


class ClaudeReader:
    """One process's output."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._session = ""
        self._model = ""
        self._result: JsonObject | None = None
        self._result_text: str | None = None
        self._streamed: OrderedDict[str, None] = OrderedDict()
        self._tools: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._chars = 0  # of the message being read
        self._last_chars = 0  # of the last message that had text
        self._open = False
        self._message = ""
        self._worked = False
        self._wait: float | None = None  # that the service asked for, when it was asked too often
        self._notes = Notes()
        self._denied = Notes()

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line."""
        data = parse(line) or EMPTY
        match data.get("type"):
            case "system":
                return self._system(data)
            case "stream_event":
                return () if data.get("parent_tool_use_id") else self._stream(object_of(data, "event"))
            case "assistant":
                return self._assistant(data)
            case "user":
                return self._user(data)
            case "result":
                return self._finish(data)
            case _:
                return ()

    def _system(self, data: JsonObject) -> list[Event]:
        match data.get("subtype"):
            case "init":
                return self._init(data)
            case "api_retry":
                return self._retry(data)
            case "permission_denied":
                return self._denial(data, text_of(data, "message", "decision_reason"))
            case _:
                return []

    def _retry(self, data: JsonObject) -> list[Event]:
        delay, attempt = number_of(data, "retry_delay_ms"), count_of(data, "attempt")
        status = count_of(data, "error_status")
        reason = text_of(data, "error") or "error"
        secs = None if delay is None else delay / 1000
        if status == 429 and secs is not None and secs > BACK_OFF_SECS * 2 ** min(attempt or 1, 30):
            self._wait = secs
        return [
            Retrying(
                reason=f"{reason} (HTTP {status})" if status else reason,
                attempt=attempt,
                max_attempts=count_of(data, "max_retries"),
                delay_secs=secs,
            )
        ]

    def _init(self, data: JsonObject) -> list[Event]:
        self._session = text_of(data, "session_id")
        self._model = text_of(data, "model")
        events: list[Event] = [SessionStarted(self._session, self._model or None)] if self._session else []
        for server in objects_of(data, "mcp_servers"):
            if server.get("status") == "failed":
                events += self._warn(f"MCP server {shorten(server.get('name'), 100)} did not start")
        return events

    def _warn(self, message: str) -> list[Event]:
        return [Warned(shorten(message))] if self._notes.add(message) else []

    def _denial(self, data: JsonObject, why: str = "") -> list[Event]:
        tool = text_of(data, "tool_name") or "a tool"
        tool_id = text_of(data, "tool_use_id")
        if tool_id in self._refused:
            return []
        remember(self._refused, tool_id, None)
        _, remembered = self._tools.get(tool_id, ("", ""))
        wanted = detail(object_of(data, "tool_input")) or remembered or why
        if not self._denied.add(f"{DENIED}{tool}: {wanted}"):
            return []
        return [PermissionDenied(tool, shorten(wanted))]

    def _stream(self, event: JsonObject) -> list[Event]:
        match event.get("type"):
            case "message_start":
                message = object_of(event, "message")
                self._message = text_of(message, "id")
                self._note_model(message)
                return self._close()
            case "content_block_delta":
                return self._delta(object_of(event, "delta"))
            case "message_stop":
                return self._close()
            case _:
                return []

    def _delta(self, delta: JsonObject) -> list[Event]:
        match delta.get("type"):
            case "text_delta":
                remember(self._streamed, self._message, None)
                return self._say(text_of(delta, "text"))
            case "thinking_delta":
                thought = text_of(delta, "thinking")
                return [Reasoning(thought)] if thought else []
            case _:
                return []

    def _say(self, text: str) -> list[Event]:
        if not text:
            return []
        self._open = True
        self._chars += len(text)
        return [TextDelta(text)]

    def _close(self) -> list[Event]:
        """End the message that is open, if one is."""
        if not self._open:
            return []
        self._open, self._last_chars, self._chars = False, self._chars, 0
        return [TextEnd()]

    def _note_model(self, message: JsonObject) -> None:
        model = text_of(message, "model")
        if model and not model.startswith("<"):  # `<synthetic>` is the CLI speaking itself
            self._model = model

    def _assistant(self, data: JsonObject) -> list[Event]:
        message = object_of(data, "message")
        identity = text_of(message, "id")
        if text_of(data, "error"):
            return []  # the CLI puts an API error into words; `result` has it as an error
        own = not data.get("parent_tool_use_id")
        if own:
            self._note_model(message)
        whole = own and identity not in self._streamed
        events: list[Event] = []
        if whole and identity != self._message:
            events += self._close()
            self._message = identity
        for block in objects_of(message, "content"):
            if block.get("type") == "text" and whole:
                events += self._say(text_of(block, "text"))
            elif block.get("type") in ("tool_use", "server_tool_use"):
                events += self._tool(block, own=own)
        return events

    def _tool(self, block: JsonObject, *, own: bool) -> list[Event]:
        self._worked = True
        tool_id, name = text_of(block, "id"), text_of(block, "name")
        what = detail(object_of(block, "input"))
        remember(self._tools, tool_id, (name, what))
        return [*(self._close() if own else ()), ToolStarted(tool_id, name, what)]

    def _user(self, data: JsonObject) -> list[Event]:
        events: list[Event] = []
        for block in objects_of(object_of(data, "message"), "content"):
            if block.get("type") != "tool_result":
                continue
            tool_id = text_of(block, "tool_use_id")
            name, _ = self._tools.get(tool_id, ("", ""))
            ok = block.get("is_error") is not True
            output = _tool_output(block)
            if not ok and "is disabled for this session" in output:
                events += self._denial({"tool_name": name, "tool_use_id": tool_id})
            events.append(ToolFinished(tool_id, name, ok, output))
        return events

    def _finish(self, data: JsonObject) -> list[Event]:
        events = self._close()
        for denial in objects_of(data, "permission_denials"):
            events += self._denial(denial)
        self._session = text_of(data, "session_id") or self._session
        text = text_of(data, "result")
        self._result = {key: value for key, value in data.items() if key != "result"}
        if _failed(data):
            self._result_text = shorten(text)
        elif len(text) > self._last_chars:
            # A command of the CLI, or text that came in no message: it is the answer all the same.
            events += [*self._say(text), *self._close()]
        return events

    def outcome(self, ending: Ending) -> Outcome:
        """Judge the run."""
        result = self._result or EMPTY
        return Outcome(
            failure=self._failure(ending),
            backend_session_id=self._session or None,
            model=self._model or None,
            stop_reason=text_of(result, "stop_reason") or None,
            structured_output=result.get("structured_output"),
            usage=_usage(result),
            cost_usd=self._cost(result),
            warnings=(*self._notes.all(), *self._denied.all()),
        )

    def _failure(self, ending: Ending) -> Failure | None:
        stopped = failures.ended(ADVICE, ending)
        if stopped:
            return stopped
        result = self._result
        if result is None:
            return self._unstarted(ending)
        if _failed(result) or ending.exit_code != 0:
            return self._told(result, ending)
        structured = result.get("structured_output")
        if self._turn.output_schema is not None and structured is None:
            return failures.mismatch(ADVICE, "it gave none")
        answered = bool(self._last_chars) or self._worked or structured is not None
        return failures.unproven(ADVICE, asked=self._turn.resume_id, given=self._session, answered=answered)

    def _unstarted(self, ending: Ending) -> Failure:
        """The failure of a run that ended without a result."""
        if "root/sudo privileges" not in ending.stderr_tail:
            return failures.start_failure(ADVICE, ending.stderr_tail, ending.exit_code)
        return failures.failure(
            ADVICE,
            "unsupported_option",
            "Claude Code does not run with sandbox_mode full as root",
            hint="use another sandbox_mode or user; or set IS_SANDBOX=1 where the machine itself is a sandbox",
            details={"option": "sandbox_mode", "value": self._turn.sandbox},
        )

    def _told(self, result: JsonObject, ending: Ending) -> Failure:
        """The failure that a `result` event tells."""
        subtype = text_of(result, "subtype")
        if subtype == "error_max_turns":
            limit = self._turn.max_turns or count_of(result, "num_turns")
            return failures.failure(
                ADVICE,
                "budget_exceeded",
                f"Claude Code stopped after the {limit} turns that max_turns allows",
                hint="raise max_turns, or continue the session",
                details={"max_turns": limit},
            )
        if subtype == "error_max_budget_usd":
            return failures.failure(
                ADVICE,
                "budget_exceeded",
                "Claude Code stopped at the cost limit",
                hint="raise --max-budget-usd, or continue the session",
            )
        errors = "; ".join(
            shorten(each) for each in list_of(result, "errors")[:5] if not str(each).startswith("[ede_diagnostic]")
        )
        message = self._result_text or errors or failures.said(ending.stderr_tail)
        if text_of(result, "stop_reason") == "refusal":
            return failures.failure(
                ADVICE,
                "backend_error",
                message or "the model refused to answer",
                hint="put the prompt differently",
            )
        if result.get("is_error") is not True and subtype == "success" and len(self._denied):
            return failures.blocked(ADVICE, self._denied.all())
        if not message:
            message = f"Claude Code stopped in the middle of its work ({subtype}, exit code {ending.exit_code})"
        failure = failures.classify(ADVICE, message, count_of(result, "api_error_status"))
        if failure.code == "rate_limited" and failure.retry_after_secs is None:
            return replace(failure, retry_after_secs=self._wait)
        return failure

    def _cost(self, result: JsonObject) -> float | None:
        """This run's cost: `total_cost_usd` adds up over the whole conversation."""
        models = object_of(result, "model_usage_since_last_result")
        costs = [number_of(object_of(models, name), "costUSD") for name in models]
        known = [cost for cost in costs if cost is not None]
        if known:
            return sum(known)
        return number_of(result, "total_cost_usd") if self._turn.resume_id is None else None


def _failed(result: JsonObject) -> bool:
    return result.get("is_error") is True or result.get("subtype") != "success"


def _usage(result: JsonObject) -> TokenUsage:
    """Claude counts cached input apart; in ours it is part of the input."""
    if text_of(result, "subtype") in ("error_max_budget_usd", "error_during_execution"):
        return TokenUsage()  # it reports zeros there
    usage = object_of(result, "usage")
    fresh = count_of(usage, "input_tokens")
    read = count_of(usage, "cache_read_input_tokens")
    written = count_of(usage, "cache_creation_input_tokens")
    return TokenUsage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        output_tokens=count_of(usage, "output_tokens"),
        cached_tokens=read,
        reasoning_tokens=count_of(object_of(usage, "output_tokens_details"), "thinking_tokens"),
    )


def detail(tool_input: JsonObject) -> str:
    """What a tool is to do, in one piece: its command, path or pattern, else all its arguments."""
    told = text_of(tool_input, "command", "file_path", "notebook_path", "path", "url", "pattern", "query")
    return shorten(told or (dict(tool_input) if tool_input else ""))


def _tool_output(block: JsonObject) -> str:
    content = block.get("content")
    if isinstance(content, str):
        return shorten(content)
    parts = [text_of(each, "text") for each in objects_of(block, "content")]
    return shorten("\n".join(part for part in parts if part))
