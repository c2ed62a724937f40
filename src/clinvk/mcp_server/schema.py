"""JSON schemas of the tools, derived from the request and response models and slimmed.

Most clients send every schema to their model on every turn, so nothing stands in them that a model does not
need: no titles, no null alternatives of optional parameters, no defaults that say "nothing", no bounds that
a sensible caller never meets (they are enforced all the same). Results are described two levels deep.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

Schema = dict[str, Any]

_UNSAID = ("title", "description", "minLength", "maxLength", "maxItems", "minimum", "maximum", "exclusiveMinimum")
_DEFS = "#/$defs/"
_MOST_VALUES = 8  # longer lists of values stay out of results; their values explain themselves
_SOME_OBJECT: Schema = {"type": "object"}
_ANYTHING: Schema = {  # spelled out, because clients that check schemas take `{}` for a mistake
    "anyOf": [{"type": name} for name in ("object", "array", "string", "number", "boolean", "null")]
}


def of_request(model: type[BaseModel], notes: Mapping[str, str], enums: Mapping[str, Sequence[str]]) -> Schema:
    """The input schema of a tool.

    `notes` describes parameters, by name or as `items.name` for those of list elements; `enums` lists the values
    of parameters whose type is plain text, wherever they stand.
    """
    raw = model.model_json_schema(mode="validation")
    schema = _slim(raw, raw.pop("$defs", {}))
    _annotate(schema, notes, enums, prefix="")
    return schema


def of_result(*models: type[BaseModel]) -> Schema:
    """The output schema of a tool that answers with one of `models`; what they share is as the first has it."""
    properties: Schema = {}
    definitions: Schema = {}
    for model in models:
        raw = model.model_json_schema(mode="serialization")
        definitions |= {name: _shape(node, known=frozenset()) for name, node in raw.pop("$defs", {}).items()}
        shape = _shape(raw, known=frozenset(definitions))["properties"]
        properties |= {name: node for name, node in shape.items() if name not in properties}
    required = [name for name in properties if all(_is_required(model, name) for model in models)]
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    used = {name: node for name, node in definitions.items() if f"'{_DEFS}{name}'" in repr(properties)}
    return schema | ({"$defs": used} if used else {})


def _is_required(model: type[BaseModel], name: str) -> bool:
    return name in model.model_fields and model.model_fields[name].is_required()


def _slim(node: Schema, definitions: Schema) -> Schema:
    if reference := node.get("$ref"):
        target = cast("Schema", definitions[reference.removeprefix(_DEFS)])
        node = target | {key: value for key, value in node.items() if key != "$ref"}
    options = _options(node)
    if len(options) == 1:
        node = options[0] | {key: value for key, value in node.items() if key != "anyOf"}
    result: Schema = {}
    for key, value in node.items():
        if key in _UNSAID or (key == "default" and not value) or (key == "additionalProperties" and value is True):
            continue
        if key == "properties":
            result[key] = {name: _slim(child, definitions) for name, child in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = _slim(cast("Schema", value), definitions)
        else:
            result[key] = value
    return result


def _shape(node: Schema, known: frozenset[str]) -> Schema:
    """Types and nothing else; a reference that is not `known` becomes some object."""
    if reference := node.get("$ref"):
        return {"$ref": reference} if reference.removeprefix(_DEFS) in known else _SOME_OBJECT
    if "anyOf" in node:
        options = _options(node)
        only = _shape(options[0], known) if len(options) == 1 else _SOME_OBJECT
        return {"anyOf": [only, {"type": "null"}]}  # a list of types would be shorter, but some clients reject it
    result: Schema = {"type": node["type"]} if "type" in node else {}
    if "enum" in node and len(node["enum"]) <= _MOST_VALUES:
        result["enum"] = node["enum"]
    if "items" in node:
        result["items"] = _shape(node["items"], known)
    if "properties" in node:
        shapes = {name: _shape(child, known) for name, child in node["properties"].items()}
        result["properties"] = {name: shape or _ANYTHING for name, shape in shapes.items()}
    return result


def _options(node: Schema) -> list[Schema]:
    return [option for option in node.get("anyOf", []) if option.get("type") != "null"]


def _annotate(schema: Schema, notes: Mapping[str, str], enums: Mapping[str, Sequence[str]], *, prefix: str) -> None:
    for name, child in cast("dict[str, Schema]", schema.get("properties", {})).items():
        target = cast("Schema", child.get("items", child))
        if name in enums and target.get("type") == "string":
            target["enum"] = list(enums[name])
        if prefix + name in notes:
            child["description"] = notes[prefix + name]
        if target is not child and "properties" in target:
            _annotate(target, notes, enums, prefix="items.")
