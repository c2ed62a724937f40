"""Reads `gemini -o stream-json`.

Assistant text comes in deltas; a tool ends a message. A run has succeeded only if `result` says so and no `error`
event of severity error came: the exit code is 0 after some failures, and an HTTP status modulo 256 after others.
"""

import re
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
    object_of,
    parse,
    remember,
    shorten,
    text_of,
)
from clinvk.backends.permitting import DENIED
from clinvk.backends.structured import Answer
from clinvk.errors import ErrorCode, Failure
from clinvk.events import (
    Ending,
    Event,
    Outcome,
    PermissionDenied,
    SessionStarted,
    TextDelta,
    TextEnd,
    TokenUsage,
    ToolFinished,
    ToolStarted,
    Warned,
)

ADVICE = Advice(
    backend="gemini",
    title="Gemini CLI",
    log_in="run `gemini` once and log in, or set GEMINI_API_KEY",
    models="use auto, pro, flash or flash-lite, or a full model name that your account has",
    update="update it with `npm install -g @google/gemini-cli@latest`",
)
_DENIED = re.compile(
    r"denied by policy|policy_violation|not in workspace|clinvk: |not allowed|rejected"
    r"|requires user (confirmation|approval)",
    re.IGNORECASE,
)
# Where they would need an approval, these tools are not offered at all.
_WITHHELD = ("run_shell_command", "write_file", "replace", "web_fetch", "activate_skill", "save_memory")
_EXITS: dict[int, tuple[ErrorCode, str]] = {
    41: ("auth_required", ADVICE.log_in),
    52: ("backend_error", "correct Gemini CLI's settings.json"),
    53: ("budget_exceeded", "raise model.maxSessionTurns in Gemini CLI's settings"),
    55: ("backend_error", "trust the folder: run `gemini` there once"),
}


class GeminiReader:
    """One process's output."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._session = ""
        self._model = ""
        self._result: JsonObject | None = None
        self._error = ""
        self._open = False
        self._said = False
        self._worked = False
        self._tools: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._answer = Answer(turn.output_schema)
        self._notes = Notes()

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line."""
        data = parse(line) or EMPTY
        events: list[Event] = []
        match data.get("type"):
            case "init":
                events = self._init(data)
            case "message" if data.get("role") == "assistant":
                events = self._say(text_of(data, "content"))
            case "tool_use":
                events = self._start(data)
            case "tool_result":
                events = self._finish(data)
            case "error":
                events = self._trouble(data)
            case "result":
                self._result = data
                events = self._close()
            case _:
                pass
        return events

    def _init(self, data: JsonObject) -> list[Event]:
        self._session = text_of(data, "session_id")
        self._model = text_of(data, "model")
        return [SessionStarted(self._session, self._model or None)] if self._session else []

    def _say(self, text: str) -> list[Event]:
        if not text:
            return []
        self._open = True
        self._said = self._said or bool(text.strip())
        self._answer.add(text)
        return [TextDelta(text)]

    def _close(self) -> list[Event]:
        if not self._open:
            return []
        self._open = False
        self._answer.end()
        return [TextEnd()]

    def _start(self, data: JsonObject) -> list[Event]:
        self._worked = True
        tool_id, name = text_of(data, "tool_id"), text_of(data, "tool_name")
        parameters = object_of(data, "parameters")
        told = text_of(parameters, "command", "file_path", "absolute_path", "path", "dir_path", "pattern", "query")
        wanted = shorten(told or (dict(parameters) if parameters else ""))
        remember(self._tools, tool_id, (name, wanted))
        return [*self._close(), ToolStarted(tool_id, name, wanted)]

    def _finish(self, data: JsonObject) -> list[Event]:
        tool_id = text_of(data, "tool_id")
        name, wanted = self._tools.get(tool_id, ("", ""))
        error = object_of(data, "error")
        message = text_of(error, "message")
        ok = text_of(data, "status") == "success"
        events: list[Event] = [
            *self._close(),
            ToolFinished(tool_id, name, ok, shorten(message or text_of(data, "output"))),
        ]
        withheld = text_of(error, "type") == "tool_not_registered" and name in _WITHHELD
        denied = not ok and (withheld or _DENIED.search(f"{text_of(error, 'type')} {message}"))
        if denied and self._notes.add(f"{DENIED}{name}: {wanted}"):
            events.append(PermissionDenied(name, wanted))
        return events

    def _trouble(self, data: JsonObject) -> list[Event]:
        message = shorten(text_of(data, "message"))
        # A warning that it gave up, after a loop for one, is followed by a result that says success.
        if text_of(data, "severity") == "error" or "stopping execution" in message.lower():
            self._error = message or "an error without a message"
            return []
        return [Warned(message)] if message and self._notes.add(message) else []

    def outcome(self, ending: Ending) -> Outcome:
        """Judge the run."""
        self._answer.end()
        stats = object_of(self._result or EMPTY, "stats")
        value, why = self._answer.read()
        failure = self._failure(ending)
        if failure is None and why:
            failure = failures.mismatch(ADVICE, why)
        return Outcome(
            failure=failure,
            backend_session_id=self._session or None,
            model=self._used_model(object_of(stats, "models")),
            structured_output=value,
            usage=TokenUsage(
                input_tokens=count_of(stats, "input_tokens"),
                output_tokens=_output_tokens(stats),
                cached_tokens=count_of(stats, "cached"),
            ),
            warnings=self._notes.all(),
        )

    def _used_model(self, models: JsonObject) -> str | None:
        """The model that answered: a small one may have chosen it, and is counted as well."""
        asked = self._turn.model
        if asked and asked in models:
            return asked
        spent = {name: count_of(object_of(models, name), "output_tokens") or 0 for name in models}
        used = max(spent, key=lambda name: spent[name]) if spent else self._model
        return shorten(used, 200) or None

    def _failure(self, ending: Ending) -> Failure | None:
        stopped = failures.ended(ADVICE, ending)
        if stopped:
            return stopped
        result = self._result
        if result is None:
            return self._silent(ending)
        message = text_of(object_of(result, "error"), "message") or self._error
        if text_of(result, "status") != "success" or self._error:
            return self._told(message or failures.said(ending.stderr_tail), ending.exit_code)
        if ending.exit_code != 0:
            return failures.start_failure(ADVICE, ending.stderr_tail, ending.exit_code)
        return failures.unproven(
            ADVICE, asked=self._turn.resume_id, given=self._session, answered=self._said or self._worked
        )

    def _silent(self, ending: Ending) -> Failure:
        """No result at all: it ended while it was starting."""
        if self._error:
            return failures.classify(ADVICE, self._error)
        return _by_exit(failures.start_failure(ADVICE, ending.stderr_tail, ending.exit_code), ending.exit_code)

    def _told(self, message: str, exit_code: int | None) -> Failure:
        """The failure that the result, or an error event before it, tells."""
        if "empty response" in message:
            return failures.empty(ADVICE)
        message = re.sub(r"^\[API Error: (.*?)\]", r"\1", message, flags=re.DOTALL)
        # An API error ends in the HTTP status modulo 256.
        status = exit_code + 256 if exit_code and 144 <= exit_code <= 255 else None
        return _by_exit(failures.classify(ADVICE, message, status), exit_code)


def _by_exit(failure: Failure, exit_code: int | None) -> Failure:
    """The failure, with what the exit code says where the text says nothing."""
    if exit_code not in _EXITS or failure.code != "backend_error":
        return failure
    code, hint = _EXITS[exit_code]
    return replace(failure, code=code, hint=hint, retryable=False)


def _output_tokens(stats: JsonObject) -> int | None:
    """All that was generated, reasoning included as with the other backends; `output_tokens` leaves it out."""
    total, given = count_of(stats, "total_tokens"), count_of(stats, "input_tokens")
    if total is None or given is None or total < given:
        return count_of(stats, "output_tokens")
    return total - given
