"""What the stand-in model says and how it fails: values only, the same for all three APIs."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["anthropic", "openai", "gemini"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived; `headers` are lower-case and their keys are blanked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json
    api: Api | None
    model: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; `cached` is part of `input`, `reasoning` part of `output`."""

    input: int = 120
    cached: int = 20
    output: int = 7
    reasoning: int = 3


@dataclass(frozen=True, slots=True)
class Shell:
    """The model asks for this shell command."""

    command: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """The model asks for this file to be written; `path` is absolute."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """The model asks for a tool by the name that the CLI offers it under."""

    name: str
    arguments: Json


Call = Shell | WriteFile | CallTool


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn of the model: thoughts, text in `deltas` pieces, then tool calls.

    `hold` waits for `Standin.release()` before the headers or after the first delta. `broken` spoils the
    stream after the first delta (`cut`, `error_event`) or leaves its ending out (`no_end`); a request that does
    not stream gets half a body. `structured` is the value that a JSON schema asked for, in place of the text.
    """

    text: str = "The answer is 42."
    deltas: int = 3
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    structured: Any = None
    usage: Usage = Usage()
    stop: Literal["end", "max_tokens", "refusal"] = "end"
    hold: Literal["no", "before", "middle"] = "no"
    broken: Literal["no", "cut", "no_end", "error_event"] = "no"


@dataclass(frozen=True, slots=True)
class HttpError:
    """The API refuses with this status, in its own error shape or with exactly `body`."""

    status: int
    retry_after: int | None = None
    message: str = ""
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Garbage:
    """Status 200 with a body that is no API answer."""

    body: bytes = b"<html><body>captive portal</body></html>"


Reply = Answer | HttpError | Garbage


@dataclass
class Script:
    """Replies in order of arrival; when the queue is used up, `default` for ever.

    `reply_to` goes first: for runs in parallel, where the order of arrival says nothing. It sees the request
    and may answer None to leave it to the queue.
    """

    default: Reply = Answer()
    queue: Iterable[Reply] = ()
    reply_to: Callable[[Recorded], Reply | None] | None = None
    _pending: list[Reply] = field(init=False, repr=False)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._pending = list(self.queue)

    def next_reply(self, request: Recorded) -> Reply:
        """The reply to this request."""
        chosen = self.reply_to(request) if self.reply_to else None
        if chosen is not None:
            return chosen
        with self._lock:
            return self._pending.pop(0) if self._pending else self.default


def pieces(text: str, count: int) -> list[str]:
    """`text` in at most `count` parts that add up to it; an empty text has none."""
    size = max(1, -(-len(text) // count))
    return [text[start : start + size] for start in range(0, len(text), size)]


@dataclass(frozen=True, slots=True)
class Frames:
    """An answer on the wire: `opening` ends after the first delta, `ending` says that the answer is whole."""

    opening: bytes
    middle: tuple[bytes, ...]
    ending: bytes
    error: bytes
