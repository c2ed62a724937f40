"""What is wrong with a request, in words: the field, the value it had, and what is accepted instead."""

import difflib
from collections.abc import Mapping, Sequence, Sized
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clinvk.errors import ClinvkError

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[int | str]
_MOST_NAMED = 5  # faults told in one answer
_SHOWN_CHARS = 60


def validated(model: type[Model], given: object, *, hint: str = "correct the request") -> Model:
    """The request that `given` asks for. Raises ClinvkError(invalid_request) with every fault."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    told = [_told(fault, model) for fault in faults[:_MOST_NAMED]]
    if len(faults) > _MOST_NAMED:
        told.append(f"and {len(faults) - _MOST_NAMED} more")
    where = [".".join(str(part) for part in fault["loc"]) for fault in faults]
    raise ClinvkError("invalid_request", "; ".join(told), hint=hint, details={"fields": where})


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
        case "too_short" | "too_long":
            return f"{name} {_length(fault['input'], context)}"
        case _:
            message = fault["msg"].removeprefix("Input should be ").removeprefix("String should ")
            verb = "must be" if fault["msg"].startswith("Input should be ") else "must"
            return f"{name} is {_shown(fault['input'])}; it {verb} {message}"


def _length(given: Sized, context: Mapping[str, Any]) -> str:
    if "max_length" not in context:
        return "must not be empty"
    what = "characters" if isinstance(given, str) else "elements"
    return f"has {len(given):,} {what}; at most {context['max_length']:,} are accepted"


def _path(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the argument object"


def _unknown(location: Location, model: type[BaseModel]) -> str:
    name = str(location[-1])
    accepted = _accepted(location[:-1], model)
    near = difflib.get_close_matches(name, accepted, n=1)
    nearest = f"did you mean {near[0]}? " if near else ""
    return f"there is no parameter {_path(location)}; {nearest}accepted: {', '.join(accepted) or 'none'}"


def _accepted(location: Location, model: type[BaseModel]) -> list[str]:
    """The names that are accepted at a place: of the request itself, or of the elements of one of its lists."""
    schema = model.model_json_schema()
    node: Mapping[str, Any] = schema
    for part in location:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        options = cast("Sequence[Mapping[str, Any]]", node.get("anyOf", ()))
        node = next((option for option in options if option.get("type") != "null"), node)
        if reference := node.get("$ref"):
            node = schema["$defs"][str(reference).rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
