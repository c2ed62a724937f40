"""Arguments of a call -> request, or an `invalid_request` that a model can read and act on.

Models and their clients send what is not quite JSON Schema: null for what is left out, and objects or
lists as JSON text. Both are understood; everything else that is wrong is named with what is accepted.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from clinvk.tools.faults import validated

_Request = TypeVar("_Request", bound=BaseModel)


def parse(model: type[_Request], arguments: Mapping[str, Any]) -> _Request:
    """The request that `arguments` ask for. Raises ClinvkError(invalid_request) with every fault."""
    texts = _text_parameters(model)
    given = {
        name: value if name in texts else _decoded(value) for name, value in arguments.items() if value is not None
    }
    given = {name: _without_nulls(value) for name, value in given.items()}
    return validated(model, given, hint="correct the arguments")


@cache
def _text_parameters(model: type[BaseModel]) -> frozenset[str]:
    """Parameters that take text, which must not be read as JSON; making a schema costs more than a whole call."""
    properties = model.model_json_schema().get("properties", {})
    return frozenset(name for name, node in properties.items() if "string" in _types(node))


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
