"""What can be wrong with a configuration, and where each value came from."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from clinvk.errors import ClinvkError

_SECRET = re.compile(r"key|token|secret|passw|credential|auth|cookie", re.IGNORECASE)
REDACTED = "***"
_SHOWN = 80  # characters of a wrong value that a message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a value came from: `name` is the environment variable, `path` and `line` (from 1) the place in a file."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str | None = None
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        match self.kind:
            case "file":
                return f"{self.path}:{self.line}" if self.line else str(self.path)
            case "environment":
                return f"environment variable {self.name}"
            case "default" | "flag":
                return self.name or self.kind


DEFAULT = Source(kind="default")
COMMAND_LINE = Source(kind="flag", name="the command line")  # words of `config get` and `config set`


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong (`error`) or has no effect (`warning`), where it stands, and how it is set right."""

    message: str
    source: Source
    key: str | None = None
    severity: Literal["error", "warning"] = "error"
    fix: str = "correct the value where the message points"

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


class ConfigError(ClinvkError):
    """The configuration cannot be used; `problems` holds everything found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = [str(problem) for problem in problems]
        text = lines[0] if len(lines) == 1 else f"{len(lines)} problems:\n" + "\n".join(lines)
        super().__init__(
            "invalid_request",
            text,
            hint="; ".join(dict.fromkeys(problem.fix for problem in problems)),
            details={"problems": [{"key": p.key, "where": str(p.source), "message": p.message} for p in problems]},
        )
        self.problems = tuple(problems)


def nearest(word: str, choices: Collection[str]) -> str:
    """`did you mean 'x'?`, or what is accepted when nothing is near."""
    from difflib import get_close_matches  # only for who mistyped

    ordered = sorted(choices)
    close = get_close_matches(word.lower(), ordered, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"accepted: {', '.join(ordered)}"


def is_secret(name: str) -> bool:
    """Whether the value of something with this name is not to be shown."""
    return bool(_SECRET.search(name))


def redacted(key: tuple[str, ...], value: object) -> object:
    """The value as it may be shown: a backend's environment and whatever is named like a secret is not."""
    if "env" in key:
        return dict.fromkeys(cast("dict[str, object]", value), REDACTED) if isinstance(value, dict) else REDACTED
    if isinstance(value, list | tuple):
        return [_without_secret(item) for item in cast("Sequence[object]", value)]
    return _without_secret(value)


def described(key: tuple[str, ...], value: object) -> str:
    """The value as a message repeats it."""
    shown = redacted(key, value)
    text = str(shown).lower() if isinstance(shown, bool) else repr(shown)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _without_secret(value: object) -> object:
    if isinstance(value, str) and "=" in value:
        name, _, _ = value.partition("=")
        if name.startswith("-") and is_secret(name):
            return f"{name}={REDACTED}"
    return value
