"""What a configuration asks of a backend that the backend refuses, and where an option that was refused came from.

Nothing is started: a turn is made that asks for one value, and the backend's own code, that of a run, decides.
"""

import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clinvk.backends import registry
from clinvk.backends.base import Backend, Installation, Turn
from clinvk.config.cascade import Loaded
from clinvk.config.problems import DEFAULT, Problem, Source, described
from clinvk.config.settings import BackendConfig, Config, UnifiedFlags
from clinvk.errors import ClinvkError
from clinvk.request import PromptOptions
from clinvk.sessions.model import Session

# The field of a turn for each key, of a backend's section or of unified_flags, that a backend may refuse.
_FIELDS = {
    "model": "model",
    "approval_mode": "approval",
    "sandbox_mode": "sandbox",
    "system_prompt": "system_prompt",
    "allowed_tools": "allowed_tools",
    "extra_flags": "extra",
    "max_turns": "max_turns",
    "ephemeral": "ephemeral",
}
_UNSET = (None, False, (), "default")


def found(config: Config, sources: Mapping[str, Source]) -> list[Problem]:
    """An error for each value of a backend's section, a warning for each of unified_flags, that is refused."""
    with TemporaryDirectory(prefix="clinvk-") as folder:
        return list(_found(config, sources, Path(folder)))


def _found(config: Config, sources: Mapping[str, Source], folder: Path) -> Iterator[Problem]:
    for name, backend in registry.BACKENDS.items():
        own = config.backend(name)
        for key, value in _values(own):
            dotted = f"backends.{name}.{key}"
            for each in value if key == "extra_flags" else (value,):
                refusal = _refusal(backend, folder, key, (each,) if key == "extra_flags" else value)
                if refusal is not None:
                    said = f"{described((*dotted.split('.'),), each)}, which {name} refuses"
                    source = sources.get(dotted, DEFAULT)
                    yield Problem(message=f"{dotted} is {said}; {refusal.failure.hint}", source=source, key=dotted)
        if not own.enabled or name == registry.BUILT_IN:
            continue
        for key, value in _values(config.unified_flags):
            dotted = f"unified_flags.{key}"
            refusal = None if getattr(own, key, None) is not None else _refusal(backend, folder, key, value)
            if refusal is not None:
                said = f"{value!r}: {name} refuses calls that do not say otherwise; {refusal.failure.hint}"
                source = sources.get(dotted, DEFAULT)
                yield Problem(message=f"{dotted} is {said}", source=source, key=dotted, severity="warning")


def _values(section: BackendConfig | UnifiedFlags) -> Iterator[tuple[str, Any]]:
    for key in _FIELDS:
        value = getattr(section, key, None)
        if value not in _UNSET:
            yield key, value


def _refusal(backend: Backend, folder: Path, key: str, value: Any) -> ClinvkError | None:
    turn = Turn(prompt="", workdir=folder, scratch=folder, new_id=str(uuid.uuid4()), ask=True)
    place = Installation(program=("",), path=folder, found_by="", settings=folder)
    try:
        backend.command(replace(turn, **{_FIELDS[key]: value}), place)
    except ClinvkError as error:
        return error
    return None


@contextmanager
def traced(loaded: Loaded, backend: Backend, asked: PromptOptions, session: Session | None) -> Generator[None]:
    """Errors inside it name the field of an option that the caller gave; of another they tell where it came from."""
    try:
        yield
    except ClinvkError as error:
        failure = error.failure
        option = str(failure.details.get("option", ""))
        if getattr(asked, option, None):
            error.failure = replace(failure, details={**failure.details, "field": option})
        elif place := _place(loaded, backend, option, session):
            error.failure = replace(failure, hint=f"{failure.hint}; {option} comes from {place}")
        raise


def _place(loaded: Loaded, backend: Backend, option: str, session: Session | None) -> str | None:
    # A limit on turns that only the session keeps is never refused (see options).
    if session is not None and session.options.get(option) and option != "max_turns":
        return f"session {session.id}, which keeps what it began with"
    key = "extra_flags" if option == "extra" else option
    for dotted in (f"backends.{backend.NAME}.{key}", f"unified_flags.{key}"):
        source = loaded.sources.get(dotted, DEFAULT)
        if source.kind != "default":
            return f"{dotted} ({source})"
    return None
