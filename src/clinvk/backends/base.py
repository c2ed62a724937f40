"""The seam between clinvk and an agent CLI.

A backend is a module that satisfies `Backend` and stands in `registry.BACKENDS`. It is pure: it turns a
`Turn` into a `Command`, and lines of output into events and an `Outcome`. It never starts a process and
never waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from clinvk.errors import ClinvkError
from clinvk.events import Ending, Event, Outcome, TokenUsage
from clinvk.request import ApprovalMode, SandboxMode

Option = Literal[
    "model",
    "system_prompt",
    "max_turns",
    "ephemeral",
    "images",
    "output_schema",
    "allowed_tools",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do and enforce; anything else that a caller asks for is refused."""

    approval_modes: tuple[ApprovalMode, ...]
    sandbox_modes: tuple[SandboxMode, ...]
    options: frozenset[Option]
    streams_text: bool
    resumes: bool = True
    extra_flags: tuple[str, ...] = ()  # flags that `extra` may contain, as `--flag`; values follow `=`
    notes: Mapping[str, str] = field(default_factory=dict[str, str])  # per mode or option: how it is enforced


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A backend found on this machine: the argv prefix that starts it, and how it was found."""

    program: tuple[str, ...]
    path: Path
    found_by: str
    version: str | None = None
    settings: Path | None = None  # the folder with the user's own settings of the CLI


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One prompt as a backend sees it; everything is resolved, nothing is a default any more.

    `resume_id` is the backend's own id of the conversation to continue; `new_id` a fresh UUID for a backend that
    lets the caller choose. `usage_before` is the backend's own running total where it counts per conversation.
    `scratch` is a private folder (0700) of the run, deleted with it. It is made for a command that has files or names
    it in its environment. `strict` is for a check of the flags: the CLI is to refuse settings that it would pass over.
    """

    prompt: str
    workdir: Path
    scratch: Path
    new_id: str
    resume_id: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    approval: ApprovalMode = "default"
    ask: bool = False  # a person can be asked during the run; approval `always` is given only then
    sandbox: SandboxMode = "default"
    max_turns: int | None = None
    ephemeral: bool = False
    images: tuple[Path, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    allowed_tools: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    usage_before: TokenUsage | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start. `stdin` is what the process reads; `files` are written to the scratch folder first.

    With `interactive` its stdin stays open after that, for the replies of an `InteractiveReader`. `env` is added to
    the allow-listed environment; variables in `blanked` are empty where nothing else sets them, so that the program
    takes no value for them from a file. `expect_session` is the id that must come back.
    """

    argv: tuple[str, ...]
    cwd: Path
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    blanked: tuple[str, ...] = ()
    files: Mapping[Path, bytes] = field(default_factory=dict[Path, bytes])
    expect_session: str | None = None
    interactive: bool = False


class Reader(Protocol):
    """Reads one process's standard output, line by line, and then judges the run."""

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line (without its newline). Unknown and damaged lines give none, never an error."""
        ...

    def outcome(self, ending: Ending) -> Outcome:
        """Judge the run, once, after the last line; success only if exit, final event and text agree."""
        ...


@runtime_checkable
class InteractiveReader(Reader, Protocol):
    """A reader whose process asks (`ApprovalAsked`) and waits for the reply on its stdin."""

    def reply(self, question_id: str, *, allowed: bool, reason: str) -> bytes:
        """What to write for an answer; nothing when the question is unknown or was answered."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the process has nothing more to ask: its stdin can be closed, so that it ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What can be told of a login without spending anything; `state` unknown is an honest answer."""

    state: Literal["logged_in", "logged_out", "unknown"]
    how: str
    fix: str = ""
    refreshable: bool = False  # a token that several processes starting at once would race to refresh


class Backend(Protocol):
    """A module in `clinvk.backends` that knows one agent CLI."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module constant
    @property
    def TITLE(self) -> str: ...  # noqa: N802
    @property
    def EXECUTABLE(self) -> str: ...  # noqa: N802
    @property
    def INSTALL_HINT(self) -> str: ...  # noqa: N802
    @property
    def CAPABILITIES(self) -> Capabilities: ...  # noqa: N802
    @property
    def MODELS(self) -> tuple[str, ...]: ...  # noqa: N802 - aliases and names known to work; not a limit
    @property
    def ENVIRONMENT(self) -> tuple[str, ...]: ...  # noqa: N802 - names, or prefixes ending in `*`, it needs

    def program(self, path: Path) -> tuple[str, ...]:
        """The argv prefix that starts the executable found at `path` (its native binary where it has one)."""
        ...

    def settings_folder(self, environ: Mapping[str, str], home: Path) -> Path:
        """Where the CLI keeps the user's settings and its login."""
        ...

    def parse_version(self, text: str) -> str | None:
        """The version in the output of `EXECUTABLE --version`, None when this is not that program."""
        ...

    def login(self, environ: Mapping[str, str], home: Path) -> Login:
        """What can be told of the login from variables and files, without starting anything."""
        ...

    def command(self, turn: Turn, installation: Installation) -> Command:
        """The command for one turn. Raises ClinvkError(unsupported_option) for what cannot be enforced."""
        ...

    def reader(self, turn: Turn) -> Reader:
        """A fresh reader for one process's output."""
        ...


def unsupported(backend: str, option: str, value: object, can: str) -> ClinvkError:
    """The error for something that a backend cannot enforce."""
    return ClinvkError(
        "unsupported_option",
        f"{backend} cannot enforce {option}={value!r}",
        hint=can,
        backend=backend,
        details={"option": option, "value": value},
    )


def require(turn: Turn, backend: str, capabilities: Capabilities) -> None:
    """Refuse a turn that asks for what `capabilities` does not list."""
    if turn.approval not in capabilities.approval_modes:
        raise unsupported(
            backend,
            "approval_mode",
            turn.approval,
            f"{backend} accepts approval_mode: {', '.join(capabilities.approval_modes)}",
        )
    if turn.sandbox not in capabilities.sandbox_modes:
        raise unsupported(
            backend,
            "sandbox_mode",
            turn.sandbox,
            f"{backend} accepts sandbox_mode: {', '.join(capabilities.sandbox_modes)}",
        )
    asked: dict[Option, object] = {
        "model": turn.model,
        "system_prompt": turn.system_prompt,
        "max_turns": turn.max_turns,
        "ephemeral": turn.ephemeral or None,
        "images": turn.images or None,
        "output_schema": turn.output_schema,
        "allowed_tools": turn.allowed_tools or None,
    }
    for option, value in asked.items():
        if value is not None and option not in capabilities.options:
            can = ", ".join(sorted(capabilities.options))
            shown = value if isinstance(value, bool | int | str) else str(value)
            raise unsupported(backend, option, shown, f"leave {option} out; {backend} supports: {can}")
    for flag in turn.extra:
        if flag.split("=", 1)[0] not in capabilities.extra_flags:
            can = ", ".join(capabilities.extra_flags) or "none"
            raise unsupported(backend, "extra", flag, f"flags that {backend} accepts in extra: {can}")
