"""Reading JSON lines of programs that we do not control.

Nothing here raises on what a line holds: a wrong type reads as absent, text is always encodable as UTF-8, and
whatever is kept or shown is shortened first.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic_core import from_json

DETAIL_CHARS = 2_000  # of a tool's input or output inside an event
KEPT_IDS = 64  # of messages and tools that a later line may name
KEPT_NOTES = 50  # warnings and denials kept for the result

JsonObject = Mapping[str, Any]
EMPTY: JsonObject = {}

_Value = TypeVar("_Value")


def parse(line: bytes) -> JsonObject | None:
    """The JSON object that the line holds, None for anything else."""
    stripped = line.strip()
    if not stripped.startswith(b"{"):
        return None
    try:
        value: object = from_json(stripped, allow_inf_nan=False)
    except ValueError:  # damaged, or something that only the lenient and slower parser reads
        value = parse_json(stripped.decode("utf-8", "replace"))
    return cast("JsonObject", value) if isinstance(value, dict) else None


def parse_json(text: str) -> object:
    """The JSON value in `text`, None when there is none (RFC 8259: NaN and Infinity are no JSON)."""
    try:
        return _LENIENT.decode(text)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> object:
    raise ValueError(name)


_LENIENT = json.JSONDecoder(parse_constant=_refuse)


def text_of(data: JsonObject, *keys: str) -> str:
    """The first of `keys` that is a string, "" when none is; lone surrogates are replaced."""
    for key in keys:
        value = data.get(key)
        if isinstance(value, str):
            return encodable(value)
    return ""


def encodable(text: str) -> str:
    """`text` with what UTF-8 cannot carry replaced."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def object_of(data: JsonObject, key: str) -> JsonObject:
    """The object at `key`, an empty one when it is something else."""
    value = data.get(key)
    return cast("JsonObject", value) if isinstance(value, dict) else EMPTY


def list_of(data: JsonObject, key: str) -> list[object]:
    """The list at `key`, an empty one when it is something else."""
    value = data.get(key)
    return cast("list[object]", value) if isinstance(value, list) else []


def objects_of(data: JsonObject, key: str) -> list[JsonObject]:
    """The objects in the list at `key`."""
    return [cast("JsonObject", each) for each in list_of(data, key) if isinstance(each, dict)]


def count_of(data: JsonObject, key: str) -> int | None:
    """The whole number at `key`, if it is one and not negative."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


def number_of(data: JsonObject, key: str) -> float | None:
    """The finite number at `key`, if it is one."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def shorten(value: object, limit: int = DETAIL_CHARS) -> str:
    """`value` as text of at most `limit` characters; objects as JSON, cut text says so."""
    text = value if isinstance(value, str) else _as_json(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return encodable(text)


def _as_json(value: object) -> str:
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return ""


def remember(kept: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    """Put `key` into a bounded map; the oldest goes."""
    kept[key] = value
    while len(kept) > KEPT_IDS:
        kept.popitem(last=False)


class Notes:
    """Notes for the result, each once, bounded; how many were left out is told at the end."""

    def __init__(self) -> None:
        self._kept: dict[str, None] = {}
        self._dropped = 0

    def add(self, note: str) -> bool:
        """Keep `note`; False when it was there already."""
        note = shorten(note)
        if note in self._kept:
            return False
        if len(self._kept) >= KEPT_NOTES:
            self._dropped += 1
        else:
            self._kept[note] = None
        return True

    def __len__(self) -> int:
        return len(self._kept)

    def all(self) -> tuple[str, ...]:
        """What was kept, in order."""
        more = (f"and {self._dropped} more",) if self._dropped else ()
        return (*self._kept, *more)
