"""Changes one member of an object in a JSON file that people wrote: comments, order and spaces elsewhere stay.

Comments and commas before a closing bracket are understood, as editors write them into their settings.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"(?:[\s\ufeff]|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_REMARK = re.compile(r"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/)")
_PLAIN = re.compile(r"[^\s,:\[\]{}\"/]+")


class EditError(ValueError):
    """The text is not what it should be, or cannot be changed safely."""


@dataclass(frozen=True, slots=True)
class Member:
    """A key and its value in an object, by their places in the text."""

    name: str
    key: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Object:
    """An object: where it begins, its members, and where its closing brace is."""

    start: int
    members: tuple[Member, ...]
    end: int

    def get(self, name: str) -> Member | None:
        """The member that counts: of equal names the last."""
        return next((member for member in reversed(self.members) if member.name == name), None)


def parse(text: str) -> Any:
    """The value of the text; an empty text is an empty object. Raises EditError."""
    begin = _skip(text, 0)
    if begin == len(text):
        return {}
    cleaned: list[str] = []
    end = _value(text, begin, cleaned)
    if _skip(text, end) != len(text):
        raise EditError(f"something follows the value on line {_line(text, end)}")
    try:
        return json.loads("".join(cleaned))
    except (ValueError, RecursionError) as error:
        raise EditError(str(error)) from None


def with_member(text: str, container: str, name: str, value: object) -> str:
    """The text with `container.name` set to `value`. Raises EditError."""
    if _skip(text, 0) == len(text):
        return f"{json.dumps({container: {name: value}}, indent=2, ensure_ascii=False)}\n"
    root = _object(text, _skip(text, 0))
    unit = _unit(text, root)
    holder = root.get(container)
    if holder is None:
        return _inserted(text, root, unit, 1, container, {name: value})
    inside = _object(text, holder.value)
    member = inside.get(name)
    if member is None:
        return _inserted(text, inside, unit, 2, name, value)
    return text[: member.value] + _written(value, unit, 2, text) + text[member.end :]


def without_member(text: str, container: str, name: str) -> str:
    """The text without `container.name`. Raises EditError."""
    if _skip(text, 0) == len(text):
        return text
    holder = _object(text, _skip(text, 0)).get(container)
    if holder is None:
        return text
    inside = _object(text, holder.value)
    member = inside.get(name)
    if member is None:
        return text
    begin = member.key - len(_blank_before(text, member.key))
    comma = _skip(text, member.end)
    if text[comma] == ",":
        return text[:begin] + text[comma + 1 :]
    place = inside.members.index(member)
    if place == 0:
        return text[: inside.start + 1] + text[member.end :].lstrip()
    comma = _skip(text, inside.members[place - 1].end)
    return text[:comma] + text[comma + 1 : begin] + text[member.end :]


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _blank_before(text: str, place: int) -> str:
    """The white space directly before a place, back to the end of the line above."""
    before = text[:place]
    blank = before[len(before.rstrip()) :]
    newline = blank.rfind("\n")
    if newline < 0:
        return blank
    return blank[newline - 1 :] if blank[newline - 1 : newline] == "\r" else blank[newline:]


def _object(text: str, place: int) -> Object:
    """The object at a place."""
    if place >= len(text) or text[place] != "{":
        raise EditError(f"an object is expected on line {_line(text, place)}")
    members: list[Member] = []
    at = _skip(text, place + 1)
    while at < len(text) and text[at] != "}":
        key = _STRING.match(text, at)
        if key is None:
            raise EditError(f"a key in quotes is expected on line {_line(text, at)}")
        colon = _skip(text, key.end())
        if text[colon : colon + 1] != ":":
            raise EditError(f"a colon is expected on line {_line(text, colon)}")
        value = _skip(text, colon + 1)
        end = _value(text, value, [])
        members.append(Member(json.loads(key[0]), at, value, end))
        at = _next(text, end, "}")
    if at >= len(text):
        raise EditError("the text ends too early")
    return Object(place, tuple(members), at)


def _next(text: str, end: int, closing: str) -> int:
    """The place of the next element, or of the closing bracket."""
    at = _skip(text, end)
    if text[at : at + 1] == ",":
        return _skip(text, at + 1)
    if text[at : at + 1] != closing:
        raise EditError(f"',' or '{closing}' is expected on line {_line(text, at)}")
    return at


def _value(text: str, place: int, cleaned: list[str]) -> int:
    """The end of the value at a place; `cleaned` gets it as strict JSON."""
    opening = text[place : place + 1]
    if opening not in ("{", "["):
        found = _STRING.match(text, place) or _PLAIN.match(text, place)
        if found is None:
            raise EditError(f"a value is expected on line {_line(text, place)}")
        cleaned.append(found[0])
        return found.end()
    closing = "}" if opening == "{" else "]"
    cleaned.append(opening)
    at = _skip(text, place + 1)
    first = True
    while at < len(text) and text[at] != closing:
        if not first:
            cleaned.append(",")
        first = False
        if opening == "{":
            key = _STRING.match(text, at)
            colon = _skip(text, key.end()) if key else at
            if key is None or text[colon : colon + 1] != ":":
                raise EditError(f"a key in quotes and a colon are expected on line {_line(text, at)}")
            cleaned += [key[0], ":"]
            at = _skip(text, colon + 1)
        at = _next(text, _value(text, at, cleaned), closing)
    if at >= len(text):
        raise EditError("the text ends too early")
    cleaned.append(closing)
    return at + 1


def _unit(text: str, root: Object) -> str:
    """By how much a level is indented."""
    if root.members:
        blank = _blank_before(text, root.members[0].key)
        if blank.startswith(("\n", "\r")) and blank.strip("\r\n"):
            return blank.strip("\r\n")
    return "  "


def _after_remark(text: str, place: int) -> int:
    """The end of a comment that begins on this line, and so is about what stands there."""
    found = _REMARK.match(text, place)
    return found.end() if found else place


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _written(value: object, unit: str, depth: int, text: str) -> str:
    written = json.dumps(value, indent=unit, ensure_ascii=False)
    return written.replace("\n", _newline(text) + unit * depth)


def _inserted(text: str, into: Object, unit: str, depth: int, name: str, value: object) -> str:
    newline = _newline(text)
    member = f"{newline}{unit * depth}{json.dumps(name)}: {_written(value, unit, depth, text)}"
    if into.members:
        end = into.members[-1].end
        comma = _skip(text, end)
        if text[comma] == ",":
            place = _after_remark(text, comma + 1)
            return f"{text[:place]}{member},{text[place:]}"
        place = _after_remark(text, end)
        return f"{text[:end]},{text[end:place]}{member}{text[place:]}"
    rest = text[into.start + 1 :]
    if not text[into.start + 1 : into.end].strip():
        rest = f"{newline}{unit * (depth - 1)}{text[into.end :]}"
    return f"{text[: into.start + 1]}{member}{rest}"
