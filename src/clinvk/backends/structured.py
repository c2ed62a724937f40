"""Structured answers of CLIs that give them as text: parsed, and checked against the schema that was asked for."""

import json
import re
from collections.abc import Mapping
from typing import Any

from clinvk.backends.lines import encodable

MAX_CHARS = 4 * 1024 * 1024  # of an answer that is kept to be parsed
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL | re.IGNORECASE)


class Answer:
    """The last assistant message, kept only where a schema was asked for, and only up to a limit."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self.schema = schema
        self._parts: list[str] = []
        self._chars = 0
        self._ended = False

    def add(self, text: str) -> None:
        """A piece of the message that is being written."""
        if self.schema is None:
            return
        if self._ended:
            self._parts, self._chars, self._ended = [], 0, False
        self._chars += len(text)
        if self._chars <= MAX_CHARS:
            self._parts.append(text)

    def end(self) -> None:
        """The message is complete; the next piece begins another."""
        self._ended = True

    def read(self) -> tuple[Any, str]:
        """The value, and "" or why there is none."""
        if self.schema is None:
            return None, ""
        if self._chars > MAX_CHARS:
            return None, f"it is longer than {MAX_CHARS:,} characters"
        return read("".join(self._parts), self.schema)


def read(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The JSON value in `text` that fits `schema`, and "" or why there is none."""
    stripped = text.strip()
    fenced = _FENCE.match(stripped)
    try:
        value = json.loads(fenced[1] if fenced else stripped, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON ({error})" if stripped else "there is no text"
    why = misfit(value, schema)
    return (None, why) if why else (value, "")


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no JSON value")


def misfit(value: object, schema: Mapping[str, Any]) -> str:
    """Why `value` does not fit `schema`, "" when it does."""
    # Imported here: slow to load, rarely needed.
    import jsonschema  # type: ignore[import-untyped]

    untyped: Any = value
    try:
        jsonschema.validate(untyped, dict(schema))
    except jsonschema.ValidationError as error:
        return encodable(f"{error.json_path}: {error.message}")[:500]
    except jsonschema.SchemaError as error:
        return encodable(f"output_schema itself is not valid: {error.message}")[:500]
    except RecursionError:
        return "it is nested too deeply"
    return ""


def request(schema: Mapping[str, Any]) -> str:
    """How a CLI without an option of its own is asked for an answer that fits `schema`."""
    return (
        "\n\nAnswer with one JSON value and nothing else: no introduction, no code fence. "
        f"It must fit this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}\n"
    )
