"""The options of a turn: what the call names, what its session keeps, what the configuration says, in this order.

A mode or limit that no caller named was the configuration's, and stays so: when it is tightened, sessions begun before
are held to it as well. It is never loosened for them. What a caller named stays as it was named, but for `default`,
which bounds nothing. A conversation goes on as well on a backend that cannot count turns: a limit on them that only its
session keeps is told of then, and holds again where it can be enforced. Modes are never given up like that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from clinvk.backends.base import Backend
from clinvk.config.settings import Config
from clinvk.request import ApprovalMode, PromptOptions, SandboxMode
from clinvk.sessions.model import Session

# Tightest first.
APPROVAL_ORDER: tuple[ApprovalMode, ...] = ("none", "always", "default", "auto")
SANDBOX_ORDER: tuple[SandboxMode, ...] = ("read-only", "workspace", "default", "full")
BOUNDS = ("approval_mode", "sandbox_mode", "max_turns")

_Mode = TypeVar("_Mode", ApprovalMode, SandboxMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a turn with defaults filled in; `named` are those bounds that a caller chose."""

    model: str | None
    approval: ApprovalMode
    sandbox: SandboxMode
    system_prompt: str | None
    max_turns: int | None
    unenforced_turns: int | None  # of the session, on a backend that cannot limit them
    allowed_tools: tuple[str, ...]
    extra: tuple[str, ...]
    configured_extra: tuple[str, ...]
    named: tuple[str, ...]

    def kept(self) -> dict[str, Any]:
        """What a session keeps for its later turns; what is the configuration's alone is not among it."""
        return {
            "model": self.model,
            "approval_mode": self.approval,
            "sandbox_mode": self.sandbox,
            "system_prompt": self.system_prompt,
            "max_turns": self.max_turns or self.unenforced_turns,
            "extra": list(self.extra),
            "named": list(self.named),
        }


def resolve(config: Config, backend: Backend, asked: PromptOptions, session: Session | None) -> Options:
    """The options of a turn on `backend`, in `session` if it continues one."""
    own, unified = config.backend(backend.NAME), config.unified_flags
    kept: Mapping[str, Any] = session.options if session else {}
    same = session is not None and session.backend == backend.NAME
    before: list[str] = kept.get("named") or []
    named = [bound for bound in BOUNDS if bound in before or getattr(asked, bound) is not None]

    turns: int | None = kept.get("max_turns")
    forgone = turns if turns and not asked.max_turns and "max_turns" not in backend.CAPABILITIES.options else None

    def mode(name: str, configured: _Mode, order: tuple[_Mode, ...]) -> _Mode:
        wanted: _Mode | None = getattr(asked, name)
        chosen: _Mode | None = wanted or _kept_mode(kept.get(name), same=same)
        if chosen is None:
            return configured
        stays = wanted is not None or (name in before and chosen != "default")
        return chosen if stays or order.index(chosen) <= order.index(configured) else configured

    return Options(
        model=asked.model or (kept.get("model") if same else None) or own.model,
        approval=mode("approval_mode", own.approval_mode or unified.approval_mode, APPROVAL_ORDER),
        sandbox=mode("sandbox_mode", own.sandbox_mode or unified.sandbox_mode, SANDBOX_ORDER),
        system_prompt=_first(asked.system_prompt, kept.get("system_prompt"), own.system_prompt),
        max_turns=asked.max_turns or _turns(None if forgone else turns, unified.max_turns, named="max_turns" in before),
        unenforced_turns=forgone,
        allowed_tools=own.allowed_tools or (),
        extra=_last_of_each([*((kept.get("extra") or ()) if same else ()), *asked.extra]),
        configured_extra=own.extra_flags,
        named=tuple(named),
    )


def all_extra(options: Options) -> tuple[str, ...]:
    """The flags to add to the command: those of the configuration first, so that a caller's win."""
    return _last_of_each([*options.configured_extra, *options.extra])


def _kept_mode(mode: Any, *, same: bool) -> Any:
    """A mode that the session keeps; one backend's default is not another's, whose own configuration decides then."""
    return mode if same or mode != "default" else None


def _turns(kept: int | None, configured: int | None, *, named: bool) -> int | None:
    limits = [limit for limit in ((kept,) if named and kept else (kept, configured)) if limit]
    return min(limits, default=None)


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)


def _last_of_each(flags: Iterable[str]) -> tuple[str, ...]:
    """Each flag once, where it stands last: of two values of one flag the later wins."""
    return tuple(reversed(dict.fromkeys(reversed(list(flags)))))
