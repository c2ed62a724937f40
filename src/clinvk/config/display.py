"""Shows a configuration: every key with its value and where that came from, without secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from clinvk.config.cascade import Loaded
from clinvk.config.keys import unknown_key
from clinvk.config.problems import COMMAND_LINE, ConfigError, Problem, redacted


@dataclass(frozen=True, slots=True)
class Row:
    """One key as it may be shown; `value` is plain data, `source` a text such as `~/.clinvk/config.yaml:3`."""

    key: str
    value: object
    source: str


def show(loaded: Loaded) -> list[Row]:
    """Every key of a configuration, secrets redacted."""
    return [Row(key, _shown(loaded, key), str(source)) for key, source in loaded.sources.items()]


def get(loaded: Loaded, dotted: str) -> object:
    """One key's value as it is, or a section's as it may be shown. Raises ConfigError for a key that is not there."""
    if dotted in loaded.sources:
        return _value(loaded, dotted)
    section = {key: _shown(loaded, key) for key in loaded.sources if key.startswith(f"{dotted}.")}
    if section:
        return _nested(section, len(dotted.split(".")))
    message = unknown_key(tuple(dotted.split(".")), _nested(dict.fromkeys(loaded.sources), 0))
    raise ConfigError([Problem(message=message, source=COMMAND_LINE, key=dotted)])


def _shown(loaded: Loaded, dotted: str) -> object:
    return redacted(tuple(dotted.split(".")), _value(loaded, dotted))


def _value(loaded: Loaded, dotted: str) -> object:
    *section, name = dotted.split(".")
    model: BaseModel = loaded.config
    if section:
        model = loaded.config.backend(section[1]) if section[0] == "backends" else getattr(model, section[0])
    return to_jsonable_python(getattr(model, name))


def _nested(flat: Mapping[str, object], skip: int) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")[skip:]
        level = nested
        for section in sections:
            level = level.setdefault(section, {})
        level[name] = value
    return nested
