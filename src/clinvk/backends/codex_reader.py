"""Reads `codex exec --json`.

Codex gives whole messages, no deltas; the last one is the answer. `error` lines are mostly retries: only
`turn.failed` or the exit code fails a run. Its token counts add up over the whole thread.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence

from clinvk.backends import failures
from clinvk.backends.base import Turn
from clinvk.backends.failures import Advice
from clinvk.backends.lines import (
    EMPTY,
    JsonObject,
    Notes,
    count_of,
    object_of,
    objects_of,
    parse,
    remember,
    shorten,
    text_of,
)
from clinvk.backends.permitting import DENIED
from clinvk.backends.structured import Answer
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
    backend="codex",
    title="Codex",
    log_in="run `codex login`, or set CODEX_API_KEY (OPENAI_API_KEY is not used)",
    models="leave model out for Codex's default, or name one that your account has",
    update="update it with `codex update`",
)
_RETRY = re.compile(r"(?:reconnecting|retrying|attempt)\D{0,20}(\d+)\s*/\s*(\d+)", re.IGNORECASE)
_REFUSED = re.compile(r"read-only file system|operation not permitted|permission denied", re.IGNORECASE)
VIOLATION_LOG = "codex_sandboxing::violation"
_VIOLATION = re.compile(rf" {VIOLATION_LOG}: [^\n]{{0,200}}?\breason=(\w+)")
_PATCH = re.compile(r"(patch rejected[^\n]{0,300}|rejected by [^\n]{0,300})", re.IGNORECASE)
# Work that counts as an answer without text. An item of another kind may be the text itself, under a new name.
_WORK = ("command_execution", "file_change", "mcp_tool_call", "web_search", "image_generation", "collab_tool_call")
_TOOL_NAMES = {"command_execution": "shell", "file_change": "apply_patch", "web_search": "web_search"}


class CodexReader:
    """One process's output."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._session = ""
        self._total: TokenUsage | None = None
        self._failed: str | None = None
        self._error = ""
        self._said = False
        self._worked = False
        self._commands_refused = 0
        self._started: OrderedDict[str, None] = OrderedDict()
        self._answer = Answer(turn.output_schema)
        self._notes = Notes()

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line."""
        data = parse(line) or EMPTY
        match data.get("type"):
            case "thread.started":
                self._session = text_of(data, "thread_id")
                return [SessionStarted(self._session)] if self._session else []
            case "item.started":
                return self._start(object_of(data, "item"))
            case "item.completed":
                return self._complete(object_of(data, "item"))
            case "turn.completed":
                self._total = _total(object_of(data, "usage"))
            case "turn.failed":
                self._failed = text_of(object_of(data, "error"), "message") or self._error
            case "error":
                return self._trouble(text_of(data, "message"))
            case _:
                pass
        return []

    def _trouble(self, message: str) -> list[Event]:
        self._error = shorten(message)
        found = _RETRY.search(message)
        if not found:
            return []
        return [Retrying(self._error, attempt=int(found[1][:9]), max_attempts=int(found[2][:9]))]

    def _start(self, item: JsonObject) -> list[Event]:
        kind = text_of(item, "type")
        if kind in ("agent_message", "reasoning", "error", ""):
            return []
        identity = text_of(item, "id")
        if identity in self._started:
            return []
        self._worked = self._worked or kind in _WORK
        remember(self._started, identity, None)
        return [ToolStarted(identity, _name(item), _wanted(item))]

    def _complete(self, item: JsonObject) -> list[Event]:
        match text_of(item, "type"):
            case "agent_message":
                return self._message(text_of(item, "text"))
            case "reasoning":
                thought = text_of(item, "text")
                return [Reasoning(thought)] if thought else []
            case "error":
                message = shorten(text_of(item, "message"))
                return [Warned(message)] if message and self._notes.add(message) else []
            case "":
                return []
            case _:
                return self._tool_end(item)

    def _message(self, text: str) -> list[Event]:
        if not text:
            return []
        self._said = self._said or bool(text.strip())
        self._answer.add(text)
        self._answer.end()
        return [TextDelta(text), TextEnd()]

    def _tool_end(self, item: JsonObject) -> list[Event]:
        events = self._start(item)
        code = item.get("exit_code")
        ok = text_of(item, "status") not in ("failed", "declined") and code in (None, 0)
        output = text_of(item, "aggregated_output") or text_of(object_of(item, "error"), "message")
        events.append(ToolFinished(text_of(item, "id"), _name(item), ok, shorten(output or _wanted(item))))
        if not ok and self._refused(item, output):
            self._commands_refused += text_of(item, "type") == "command_execution"
            wanted = _wanted(item)
            if self._notes.add(f"{DENIED}{_name(item)}: {wanted}"):
                events.append(PermissionDenied(_name(item), wanted))
        return events

    def _refused(self, item: JsonObject, output: str) -> bool:
        """Whether it was the sandbox that made a tool fail."""
        if text_of(item, "status") == "declined":
            return True
        return self._turn.sandbox != "full" and _REFUSED.search(output) is not None

    def outcome(self, ending: Ending) -> Outcome:
        """Judge the run."""
        for rejected in _PATCH.finditer(ending.stderr_tail):
            self._notes.add(f"{DENIED}apply_patch: {rejected[1].strip()}")
        self._note_unnamed(_VIOLATION.findall(ending.stderr_tail))
        value, why = self._answer.read()
        failure = self._failure(ending)
        if failure is None and why:
            failure = failures.mismatch(ADVICE, why)
        return Outcome(
            failure=failure,
            backend_session_id=self._session or None,
            model=self._turn.model,
            structured_output=value,
            usage=self._usage(),
            native_usage=self._total,
            warnings=self._notes.all(),
        )

    def _note_unnamed(self, reasons: list[str]) -> None:
        """Note the commands that the sandbox refused, and that no event has named."""
        unnamed = reasons[self._commands_refused :]
        if unnamed:
            many = f"{len(unnamed)} commands" if len(unnamed) > 1 else "a command"
            why = ", ".join(dict.fromkeys(reason.replace("_", " ") for reason in unnamed))
            self._notes.add(f"{DENIED}shell: {many} that Codex did not name ({why})")

    def _failure(self, ending: Ending) -> Failure | None:
        stopped = failures.ended(ADVICE, ending)
        if stopped:
            return stopped
        if self._failed is not None:
            return failures.classify(ADVICE, self._failed or failures.said(ending.stderr_tail))
        if self._total is None or ending.exit_code != 0:
            if self._error:
                return failures.classify(ADVICE, self._error)
            return failures.start_failure(ADVICE, ending.stderr_tail, ending.exit_code)
        return failures.unproven(
            ADVICE, asked=self._turn.resume_id, given=self._session, answered=self._said or self._worked
        )

    def _usage(self) -> TokenUsage:
        """This turn's share of the thread's total."""
        total, before = self._total, self._turn.usage_before
        if total is None:
            return TokenUsage()
        if self._turn.resume_id is None:
            return total
        if before is None:
            return TokenUsage()
        return TokenUsage(
            input_tokens=_less(total.input_tokens, before.input_tokens),
            output_tokens=_less(total.output_tokens, before.output_tokens),
            cached_tokens=_less(total.cached_tokens, before.cached_tokens),
            reasoning_tokens=_less(total.reasoning_tokens, before.reasoning_tokens),
        )


def _less(total: int | None, before: int | None) -> int | None:
    """The difference; unknown where one is, and where the CLI began to count anew."""
    if total is None or before is None or total < before:
        return None
    return total - before


def _total(usage: JsonObject) -> TokenUsage:
    return TokenUsage(
        input_tokens=count_of(usage, "input_tokens"),
        output_tokens=count_of(usage, "output_tokens"),
        cached_tokens=count_of(usage, "cached_input_tokens"),
        reasoning_tokens=count_of(usage, "reasoning_output_tokens"),
    )


def _name(item: JsonObject) -> str:
    kind = text_of(item, "type")
    if kind == "mcp_tool_call":
        return f"{text_of(item, 'server')}.{text_of(item, 'tool')}"
    return _TOOL_NAMES.get(kind, kind)


def _wanted(item: JsonObject) -> str:
    """What a tool is to do."""
    told = text_of(item, "command", "query")
    paths = [f"{text_of(change, 'kind')} {text_of(change, 'path')}" for change in objects_of(item, "changes")]
    return shorten(told or ", ".join(paths[:50]) or item.get("arguments"))
