"""The parts of the documents that are derived from the code: `python tests/documents.py` writes them anew.

A derived part stands between `<!-- NAME: derived -->` and `<!-- end NAME -->`; everything else is written by hand.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clinvk.backends import registry
from clinvk.backends.base import Backend
from clinvk.config.settings import Config
from clinvk.mcp_server.wording import WORDS

ROOT = Path(__file__).parents[1]


def verbs() -> str:
    """Every verb of the command with its help."""
    from clinvk.cli.parser import VERBS

    return _table(("Command", "What it does"), [(f"`clinvk {name}`", verb.HELP) for name, verb in VERBS.items()])


def tools() -> str:
    """Every MCP tool with the first sentence of its description."""
    return _table(("Tool", "What it does"), [(f"`{name}`", _first(w.description)) for name, w in WORDS.items()])


def config() -> str:
    """Every key of the configuration."""
    parts: list[str] = []
    top: list[tuple[str, ...]] = []
    for name, field in Config.model_fields.items():
        section = field.get_default(call_default_factory=True)
        if isinstance(section, BaseModel):
            model = type(section)
            parts += [f"## {name}\n", _sentence(model), _table(_COLUMNS, _keys(model, name)), ""]
        elif name == "backends":
            model = Config().backend("none").__class__
            parts += [f"## {name}.NAME\n", _sentence(model), _table(_COLUMNS, _keys(model, "backends.NAME")), ""]
        else:
            top.append(_key(Config, name, name))
    return "\n".join(["## Top level\n", _table(_COLUMNS, top), "", *parts]).rstrip()


def backends() -> str:
    """What every backend can enforce, and how."""
    names = list(registry.BACKENDS)
    everything = registry.BACKENDS.values()
    options = sorted({option for backend in everything for option in backend.CAPABILITIES.options})
    rows = [
        ("sandbox_mode", *[", ".join(backend.CAPABILITIES.sandbox_modes) for backend in everything]),
        ("approval_mode", *[", ".join(backend.CAPABILITIES.approval_modes) for backend in everything]),
        *[
            (option, *["yes" if option in backend.CAPABILITIES.options else "refused" for backend in everything])
            for option in options
        ],
        ("text as it is written", *["yes" if backend.CAPABILITIES.streams_text else "no" for backend in everything]),
    ]
    return "\n".join([_table(("", *names), rows), *[part for backend in everything for part in _backend(backend)]])


PARTS: Mapping[str, tuple[Path, Callable[[], str]]] = {
    "verbs": (ROOT / "README.md", verbs),
    "tools": (ROOT / "README.md", tools),
    "config": (ROOT / "docs" / "config.md", config),
    "backends": (ROOT / "docs" / "backends.md", backends),
}


def written(name: str) -> str:
    """The part as the document has it. Raises ValueError when it has none."""
    path, _ = PARTS[name]
    found = _pattern(name).search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} has no derived part {name!r}")
    return found[2].strip()


def write(name: str) -> None:
    """Derive the part anew."""
    path, derive = PARTS[name]
    text = path.read_text(encoding="utf-8")
    path.write_text(_pattern(name).sub(lambda m: f"{m[1]}\n{derive()}\n{m[3]}", text), encoding="utf-8")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: derived[^>]*-->)\n(.*?)(<!-- end {name} -->)", re.DOTALL)


_COLUMNS = ("Key", "Value", "Default", "Meaning")


def _keys(model: type[BaseModel], section: str) -> Iterator[tuple[str, ...]]:
    for name in model.model_fields:
        yield _key(model, name, f"{section}.{name}")


def _key(model: type[BaseModel], name: str, key: str) -> tuple[str, ...]:
    field = model.model_fields[name]
    accepted = _accepted(model.model_json_schema()["properties"][name])
    default = field.get_default(call_default_factory=True)
    return f"`{key}`", accepted, f"`{json.dumps(default, default=str)}`", field.description or ""


def _accepted(schema: Mapping[str, Any]) -> str:
    """What a key takes, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_accepted(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "path":
        return "absolute path"
    kind = _KINDS[schema["type"]]
    if schema["type"] == "array":
        return f"{kind} {_accepted(schema['items'])}"
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    if least is None:
        return kind
    above = "above " if "exclusiveMinimum" in schema else "from "
    most = f" to {schema['maximum']:,.0f}" if schema.get("maximum", 1e9) < 1e9 else ""
    return f"{kind} {above}{least:,.0f}{most}"


_KINDS = {
    "string": "text",
    "boolean": "`true`, `false`",
    "integer": "whole number",
    "number": "number",
    "array": "list of",
    "object": "mapping",
    "null": "null",
}


def _backend(backend: Backend) -> Iterator[str]:
    can = backend.CAPABILITIES
    yield f"\n## {backend.TITLE} (`{backend.NAME}`)\n"
    yield f"- install: {backend.INSTALL_HINT}"
    yield f"- models that are known to work: {', '.join(backend.MODELS) or 'those that the CLI offers'}"
    yield f"- flags that `extra` and `extra_flags` may contain: {_code(can.extra_flags) or 'none'}"
    yield f"- variables that it gets besides the common ones: {_code(backend.ENVIRONMENT)}"
    if can.notes:
        yield "\n" + _table(("Setting", "How it is done"), [(f"`{name}`", note) for name, note in can.notes.items()])


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first(text: str) -> str:
    return text.split(". ")[0].rstrip(".") + "."


def _sentence(model: type[BaseModel]) -> str:
    return f"{(model.__doc__ or '').strip()}\n"


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    for part in PARTS:
        write(part)
