"""A prompt with everything resolved: what the executor needs to start it, and to judge it again later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clinvk.backends.base import Backend, Command, Installation, Turn
from clinvk.events import TokenUsage
from clinvk.executor.process import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One prompt, ready to run. `session_id` names the session to continue; `keep_session` whether to keep one at all."""

    run_id: str
    backend: Backend
    installation: Installation
    turn: Turn
    command: Command
    env: Mapping[str, str]
    limits: Limits
    prompt: str
    session_id: str | None = None
    keep_session: bool = True
    refreshable_login: bool = False
    session_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()


def dump_turn(turn: Turn) -> dict[str, Any]:
    """The turn as JSON, for the record of the run; the prompt is in the request already."""
    raw = asdict(turn) | {"prompt": ""}
    return raw | {
        "workdir": str(turn.workdir),
        "scratch": str(turn.scratch),
        "images": [str(path) for path in turn.images],
    }


def load_turn(raw: Mapping[str, Any]) -> Turn:
    """The turn of a record, to read its output again."""
    usage = raw["usage_before"]
    return Turn(
        **{
            **raw,
            "workdir": Path(raw["workdir"]),
            "scratch": Path(raw["scratch"]),
            "images": tuple(map(Path, raw["images"])),
            "allowed_tools": tuple(raw["allowed_tools"]),
            "extra": tuple(raw["extra"]),
            "usage_before": None if usage is None else TokenUsage(**usage),
        }
    )
