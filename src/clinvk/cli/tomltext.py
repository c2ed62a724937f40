"""Changes one table of a TOML file that people wrote: every byte elsewhere stays."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from clinvk.cli.jsonc import EditError

_HEADER = re.compile(r"^\s*\[")


def parse(text: str) -> dict[str, Any]:
    """The value of the text. Raises EditError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(str(error)) from None


def with_table(text: str, container: str, name: str, values: Mapping[str, object]) -> str:
    """The text with the table `[container.name]` holding `values`."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = [f"[{container}.{name}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    written = newline.join(block) + newline
    lines = text.splitlines(keepends=True)
    spans = _spans(lines, container, name)
    if spans:
        begin, end = spans[0]
        rest = _without(lines[end:], container, name)
        return "".join(lines[:begin]) + written + "".join(rest)
    if text and not text.endswith("\n"):
        text += newline
    return f"{text}{newline if text.strip() else ''}{written}"


def without_table(text: str, container: str, name: str) -> str:
    """The text without the table `[container.name]` and those below it."""
    return "".join(_without(text.splitlines(keepends=True), container, name))


def _without(lines: list[str], container: str, name: str) -> list[str]:
    for begin, end in reversed(_spans(lines, container, name)):
        if begin and not lines[begin - 1].strip():
            begin -= 1  # the empty line that set the table off
        lines = lines[:begin] + lines[end:]
    return lines


def _spans(lines: list[str], container: str, name: str) -> list[tuple[int, int]]:
    """Where the table and those below it stand; what follows their last value belongs to the next table."""
    quoted = rf"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')"
    ours = re.compile(rf"^\s*\[\s*{re.escape(container)}\s*\.\s*{quoted}\s*(?:\.[^\]]*)?\]\s*(?:#.*)?$")
    spans: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if ours.match(line.rstrip("\r\n")):
            end = next((at for at in range(number + 1, len(lines)) if _HEADER.match(lines[at])), len(lines))
            while end > number + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
                end -= 1
            spans.append((number, end))
    return spans


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(below)}" for key, below in value.items()) + " }"  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # a date
        raise EditError(f"it holds {value}, which cannot be written again") from None
