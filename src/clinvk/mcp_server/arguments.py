"""Arguments of a call -> request, or an `invalid_request` that a model can read and act on.

Models and their clients send what is not quite JSON Schema: null for what is left out, and objects or
lists as JSON text. Both are understood; everything else that is wrong is named with what is accepted.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clinvk.errors import ClinvkError

_Request = TypeVar("_Request", bound=BaseModel)
_MOST_NAMED = 5  # faults told in one answer
_SHOWN_CHARS = 60


def parse(model: type[_Request], arguments: Mapping[str, Any]) -> _Request:
    """The request that `arguments` ask for. Raises ClinvkError(invalid_request) with every fault."""
    texts = _text_parameters(model)
    given = {
        name: value if name in texts else _decoded(value) for name, value in arguments.items() if value is not None
    }
    given = {name: _without_nulls(value) for name, value in given.items()}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    told = [_told(fault, model) for fault in faults[:_MOST_NAMED]]
    if len(faults) > _MOST_NAMED:
        told.append(f"and {len(faults) - _MOST_NAMED} more")
    where = [".".join(str(part) for part in fault["loc"]) for fault in faults]
    raise ClinvkError("invalid_request", "; ".join(told), hint="correct the arguments", details={"fields": where})


def _text_parameters(model: type[BaseModel]) -> set[str]:
    """Parameters that take text, which must not be read as JSON."""
    properties = model.model_json_schema().get("properties", {})
    return {name for name, node in properties.items() if "string" in _types(node)}


def _types(node: Mapping[str, Any]) -> set[str]:
    options = cast("Sequence[Mapping[str, Any]]", node.get("anyOf", [node]))
    return {str(option.get("type")) for option in options}


def _decoded(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _without_nulls(value: object) -> object:
    """A list of tasks or steps in which parameters that are null are left out."""
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    return [
        {name: part for name, part in cast("dict[str, object]", item).items() if part is not None}
        if isinstance(item, dict)
        else item
        for item in items
    ]


def _told(fault: ErrorDetails, model: type[BaseModel]) -> str:
    name = _path(fault["loc"])
    context: Mapping[str, Any] = fault.get("ctx", {})
    match fault["type"]:
        case "missing":
            return f"{name} is required"
        case "extra_forbidden":
            return _unknown(fault["loc"], model)
        case "literal_error":
            return f"{name} is {_shown(fault['input'])}; it must be one of {context.get('expected')}"
        case "value_error":
            return f"{name} {context.get('error')}"
        case "too_short":
            return f"{name} must not be empty"
        case _:
            message = fault["msg"].removeprefix("Input should be ").removeprefix("String should ")
            verb = "must be" if fault["msg"].startswith("Input should be ") else "must"
            return f"{name} is {_shown(fault['input'])}; it {verb} {message}"


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the argument object"


def _unknown(location: Sequence[int | str], model: type[BaseModel]) -> str:
    name = str(location[-1])
    accepted = _accepted(location[:-1], model)
    near = difflib.get_close_matches(name, accepted, n=1)
    nearest = f"did you mean {near[0]}? " if near else ""
    return f"there is no parameter {_path(location)}; {nearest}accepted: {', '.join(accepted) or 'none'}"


def _accepted(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The names that are accepted at a place: of the request itself, or of the elements of one of its lists."""
    schema = model.model_json_schema()
    node: Mapping[str, Any] = schema
    for part in location:
        node = node["items"] if isinstance(part, int) else node["properties"][part]
        if reference := node.get("$ref"):
            node = schema["$defs"][str(reference).rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
