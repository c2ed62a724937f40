"""The shapes of a session on disk, and how a turn changes its head.

A stored status is `idle` (no turn yet), `active` (the last turn completed) or `failed` (the last turn did not);
`running` is never stored: it is read from the turn lock, so that a crash cannot leave it behind. Fields written by a
newer version are kept. Times are ISO-8601 in UTC with milliseconds, which sort as text.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError

from clinvk.events import TokenUsage

SessionStatus = Literal["idle", "active", "failed", "running"]
SESSION_STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)

INITIAL_PROMPT_CHARS = 2000
TITLE_CHARS = 80


def new_id() -> str:
    """A fresh session id."""
    return secrets.token_hex(8)


def timestamp(moment: datetime | None = None) -> str:
    """`moment` (default: now) as the files spell it."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Stored(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), defer_build=True)


class TurnError(_Stored):
    """Why a turn did not complete."""

    code: str
    message: str


class TurnRecord(_Stored):
    """One line of `<id>.turns.jsonl`; `number` counts from 1 and is given by the store.

    `update` holds the head fields that this turn set, so that a crash between the line and the head loses nothing.
    """

    number: int = 0
    run_id: str
    prompt: str
    output: str = ""
    backend: str | None = None
    model: str | None = None
    status: str = "completed"
    usage: TokenUsage = TokenUsage()
    cost_usd: float | None = None
    error: TurnError | None = None
    started_at: str | None = None
    ended_at: str = Field(default_factory=timestamp)
    update: dict[str, Any] = Field(default_factory=dict)


class Session(_Stored):
    """The head of a session, `<id>.json`.

    `options` is what a resumed turn keeps (model, approval_mode, sandbox_mode, ...); `native` belongs to whoever runs
    the backend. `turns_bytes` is the length of the turns file that this head accounts for.
    """

    id: str = Field(default_factory=new_id)
    backend: str
    backend_session_id: str | None = None
    created_at: str = Field(default_factory=timestamp)
    last_used: str = Field(default_factory=timestamp)
    working_dir: str | None = None
    model: str | None = None
    title: str = ""
    initial_prompt: str = ""
    status: str = "idle"
    turn_count: int = 0
    token_usage: TokenUsage = TokenUsage()
    cost_usd: float | None = None
    tags: list[str] = Field(default_factory=list)
    parent_id: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    native: dict[str, Any] = Field(default_factory=dict)
    last_run_id: str | None = None
    turns_bytes: int = 0


class TurnUpdate(TypedDict, total=False):
    """The head fields that a turn may set; `tags` and `metadata` are added to what the session has."""

    backend: str
    backend_session_id: str | None
    model: str | None
    working_dir: str | None
    options: dict[str, Any]
    metadata: dict[str, Any]
    native: dict[str, Any]
    tags: list[str]


_UPDATABLE = frozenset(TurnUpdate.__annotations__)
_UNNAMED = ("model", None)  # a turn that did not name its model does not make the session forget it


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions to list; None and empty mean any. `text` is searched like a query."""

    backend: str | None = None
    workdir: str | None = None
    tag: str | None = None
    status: str | None = None
    text: str | None = None


class Page(NamedTuple):
    """Some sessions, newest first, and how many there are in all."""

    sessions: list[Session]
    total: int


class SearchHit(NamedTuple):
    """A session that matched and a piece of the text around the first match."""

    session: Session
    snippet: str


class SearchPage(NamedTuple):
    """Some hits, newest session first, and how many there are in all."""

    hits: list[SearchHit]
    total: int


def encode(model: BaseModel, indent: int | None = None) -> bytes:
    """UTF-8 JSON; what is no Unicode text (lone surrogates) becomes `?`."""
    try:
        return model.model_dump_json(indent=indent).encode("utf-8")
    except (PydanticSerializationError, UnicodeEncodeError):
        return json.dumps(model.model_dump(), ensure_ascii=False, indent=indent).encode("utf-8", "replace")


def first_line(text: str, limit: int = TITLE_CHARS) -> str:
    """The first line of `text` that is not blank, shortened to `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def begun(head: Session) -> Session:
    """`head` as it is first stored: the initial prompt shortened, the title derived where there is none."""
    title = head.title or first_line(head.initial_prompt)
    prompt = head.initial_prompt
    if len(prompt) > INITIAL_PROMPT_CHARS:
        prompt = prompt[: INITIAL_PROMPT_CHARS - 1] + "…"
    return head.model_copy(update={"title": title, "initial_prompt": prompt})


def folded(head: Session, turn: TurnRecord, turns_bytes: int) -> Session:
    """`head` after `turn`, whose line ends at byte `turns_bytes` of the turns file."""
    update: dict[str, Any] = {
        "model": turn.model or head.model,
        **{name: value for name, value in turn.update.items() if name in _UPDATABLE and (name, value) != _UNNAMED},
        "tags": list(dict.fromkeys([*head.tags, *turn.update.get("tags", ())])),
        "metadata": {**head.metadata, **turn.update.get("metadata", {})},
        "turn_count": max(turn.number, head.turn_count + 1),
        "last_run_id": turn.run_id,
        "last_used": max(turn.ended_at, head.last_used),
        "status": "active" if turn.status == "completed" else "failed",
        "token_usage": _added(head.token_usage, turn.usage),
        "cost_usd": _sum(head.cost_usd, turn.cost_usd),
        "turns_bytes": turns_bytes,
    }
    if head.turn_count == 0 and not head.initial_prompt:
        return begun(head.model_copy(update={**update, "initial_prompt": turn.prompt}))
    return head.model_copy(update=update)


def accepted(update: Mapping[str, Any] | TurnUpdate) -> dict[str, Any]:
    """`update` as a plain dict. Raises ValueError for a field that a turn may not set."""
    unknown = sorted(set(update) - _UPDATABLE)
    if unknown:
        raise ValueError(f"a turn cannot set {', '.join(unknown)}; it can set {', '.join(sorted(_UPDATABLE))}")
    return dict(update)


def _added(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    return TokenUsage(
        input_tokens=_whole(one.input_tokens, other.input_tokens),
        output_tokens=_whole(one.output_tokens, other.output_tokens),
        cached_tokens=_whole(one.cached_tokens, other.cached_tokens),
        reasoning_tokens=_whole(one.reasoning_tokens, other.reasoning_tokens),
    )


def _whole(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _sum(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
