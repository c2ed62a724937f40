"""What happens during a run, as one tagged union that every door streams unchanged.

Concatenating the `TextDelta`s between two `TextEnd`s (or tool events) gives one assistant message; backends
that deliver whole messages emit one delta for each, so a reader needs to know only this rule.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from clinvk.errors import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of one turn. `cached_tokens` is part of `input_tokens`; null means that the backend did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was admitted and its process is being started."""

    run_id: str
    backend: str
    type: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The backend named its own conversation (and the model, where it says so)."""

    backend_session_id: str
    model: str | None = None
    type: Literal["session_started"] = "session_started"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str
    type: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True)
class TextEnd:
    """An assistant message is complete; the next delta begins another."""

    type: Literal["text_end"] = "text_end"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the backend's visible reasoning; never part of the answer."""

    text: str
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The backend began to use one of its tools; `detail` is the command, path or arguments, shortened."""

    tool_id: str
    name: str
    detail: str = ""
    type: Literal["tool_started"] = "tool_started"


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool use ended; `detail` is its output or error, shortened."""

    tool_id: str
    name: str
    ok: bool
    detail: str = ""
    type: Literal["tool_finished"] = "tool_finished"


@dataclass(frozen=True, slots=True)
class PermissionDenied:
    """The backend wanted to do `action` and was not allowed to."""

    tool: str
    action: str
    type: Literal["permission_denied"] = "permission_denied"


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """The backend waits for a person to allow `action` (the exact command, path or arguments of `tool`)."""

    question_id: str
    tool: str
    action: str
    type: Literal["approval_asked"] = "approval_asked"


@dataclass(frozen=True, slots=True)
class ApprovalAnswered:
    """What was answered; `reason` says by whom, or why it was refused without an answer."""

    question_id: str
    allowed: bool
    reason: str = ""
    type: Literal["approval_answered"] = "approval_answered"


@dataclass(frozen=True, slots=True)
class Retrying:
    """The backend is waiting to call its model again."""

    reason: str
    attempt: int | None = None
    max_attempts: int | None = None
    delay_secs: float | None = None
    type: Literal["retrying"] = "retrying"


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the caller should know that does not fail the run."""

    message: str
    type: Literal["warning"] = "warning"


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run ended; always the last event. The whole result is fetched by `run_id`."""

    run_id: str
    status: str
    error: Failure | None = None
    type: Literal["run_finished"] = "run_finished"


Event = (
    RunStarted
    | SessionStarted
    | TextDelta
    | TextEnd
    | Reasoning
    | ToolStarted
    | ToolFinished
    | PermissionDenied
    | ApprovalAsked
    | ApprovalAnswered
    | Retrying
    | Warned
    | RunFinished
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process of a run ended, as its keeper saw it.

    `exit_code` is that of the process (128 + n for a signal n); it means nothing unless `reason` is `exited`.
    """

    reason: Literal[
        "exited",
        "cancelled",
        "timeout",
        "stalled",
        "output_limit",
        "disk_full",
        "spawn_failed",
        "interrupted",
    ]
    exit_code: int | None = None
    message: str = ""
    stderr_tail: str = ""
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a backend made of its output and its ending. `failure` is None only when success is proven.

    `text` None means: the last non-empty assistant message of the event stream is the answer.
    `native_usage` is what the CLI reported, kept where it counts over a whole conversation (codex).
    """

    failure: Failure | None = None
    text: str | None = None
    backend_session_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    structured_output: Any = None
    usage: TokenUsage = TokenUsage()
    native_usage: TokenUsage | None = None
    cost_usd: float | None = None
    warnings: tuple[str, ...] = field(default=())


def to_json(event: Event) -> dict[str, Any]:
    """The event as the JSON object that every door shows."""
    # `asdict` copies every value deeply, which costs more than all else that is done with a line of output.
    shown = {name: getattr(event, name) for name in event.__slots__}
    if isinstance(event, RunFinished) and event.error is not None:
        shown["error"] = asdict(event.error)
    return shown
