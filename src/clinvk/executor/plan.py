"""A prompt with everything resolved: what the executor needs to start it, and to judge it again later."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from clinvk.backends.base import Backend, Command, Turn
from clinvk.errors import Failure
from clinvk.events import TokenUsage
from clinvk.executor.process import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What must be known to judge the output of a prompt and to keep its turn; it is saved with the run.

    `session_id` is that of the session that gets the turn (None: no session is kept), `new_session` whether the turn
    founds it.
    """

    run_id: str
    backend: Backend
    turn: Turn
    prompt: str
    session_id: str | None = None
    new_session: bool = True
    session_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan with what is needed once, to start it.

    `explain` adds to a failure what only a look beyond the output tells, before anybody is told of it.
    """

    plan: Plan
    command: Command
    env: Mapping[str, str]
    limits: Limits
    refreshable_login: bool = False
    without_session: "Callable[[], Prepared] | None" = None  # when the backend has lost the conversation to resume
    explain: Callable[[Failure], Awaitable[Failure]] | None = None


_TURN = tuple(each.name for each in fields(Turn))


def dump(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, for the record of the run; the prompt is in the request already."""
    turn = plan.turn
    raw = {name: getattr(turn, name) for name in _TURN} | {
        "prompt": "",
        "workdir": str(turn.workdir),
        "scratch": str(turn.scratch),
        "images": [str(path) for path in turn.images],
        "usage_before": None if turn.usage_before is None else asdict(turn.usage_before),
    }
    return {
        "turn": raw,
        "session_id": plan.session_id,
        "new_session": plan.new_session,
        "session_options": dict(plan.session_options),
        "tags": list(plan.tags),
        "metadata": dict(plan.metadata),
        "warnings": list(plan.warnings),
    }


def load(raw: Mapping[str, Any], run_id: str, backend: Backend, prompt: str) -> Plan:
    """The plan of a record, to read its output again."""
    turn, usage = raw["turn"], raw["turn"]["usage_before"]
    return Plan(
        run_id=run_id,
        backend=backend,
        turn=Turn(
            **{  # pyright: ignore[reportArgumentType] - what `dump` wrote
                **turn,
                "workdir": Path(turn["workdir"]),
                "scratch": Path(turn["scratch"]),
                "images": tuple(map(Path, turn["images"])),
                "allowed_tools": tuple(turn["allowed_tools"]),
                "extra": tuple(turn["extra"]),
                "usage_before": None if usage is None else TokenUsage(**usage),
            }
        ),
        prompt=prompt,
        session_id=raw["session_id"],
        new_session=raw["new_session"],
        session_options=raw["session_options"],
        tags=tuple(raw["tags"]),
        metadata=raw["metadata"],
        warnings=tuple(raw["warnings"]),
    )
