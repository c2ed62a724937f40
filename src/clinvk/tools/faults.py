"""What is wrong with a request, in words: the field, the value it had, and what is accepted instead."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clinvk.errors import ClinvkError

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[int | str, ...]
Node = Mapping[str, Any]  # of a JSON schema
_MOST_NAMED = 5  # faults told in one answer
_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class _Fault:
    """What pydantic says, and where the caller wrote it: its own location also names the options of unions."""

    details: ErrorDetails
    path: Path
    unions: frozenset[int]  # how much of `path` leads to a value that may be one of several things

    @property
    def is_of_option(self) -> bool:
        """Whether the value is not the one of the things that it may be that this is about."""
        return len(self.path) in self.unions


def validated(
    model: type[Model], given: object, *, hint: str = "correct the request", hidden: Collection[str] = ()
) -> Model:
    """The request that `given` asks for. Raises ClinvkError(invalid_request) with every fault.

    `hidden` are fields of the model that the caller cannot give.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = _as_written(error.errors(include_url=False), given)
    told = [_told(path, about, model, hidden) for path, about in list(faults.items())[:_MOST_NAMED]]
    if len(faults) > _MOST_NAMED:
        told.append(f"and {len(faults) - _MOST_NAMED} more")
    where = [_name(path) for path in faults]
    raise ClinvkError("invalid_request", "; ".join(told), hint=hint, details={"fields": where})


def unknown(path: Path, model: type[BaseModel], hidden: Collection[str] = ()) -> str:
    """What is said of a parameter that does not exist."""
    from difflib import get_close_matches  # only for who mistyped

    accepted = [name for name in _accepted(path[:-1], model) if name not in hidden]
    near = get_close_matches(str(path[-1]), accepted, n=1)
    nearest = f"did you mean {near[0]}? " if near else ""
    return f"there is no parameter {_name(path)}; {nearest}accepted: {', '.join(accepted) or 'none'}"


def _as_written(faults: Sequence[ErrorDetails], given: object) -> dict[Path, list[ErrorDetails]]:
    """The faults by the place that the caller wrote; of a value that may be several things, the nearest."""
    placed = [_placed(fault, given) for fault in faults]
    within = {fault.path[:depth] for fault in placed for depth in fault.unions if depth < len(fault.path)}
    found: dict[Path, list[ErrorDetails]] = {}
    for fault in placed:
        if not (fault.is_of_option and fault.path in within):
            found.setdefault(fault.path, []).append(fault.details)
    return found


def _placed(fault: ErrorDetails, given: object) -> _Fault:
    path: list[int | str] = []
    unions: set[int] = set()
    node: Any = given
    for number, part in enumerate(fault["loc"], 1):
        is_last = number == len(fault["loc"])
        if is_last and fault["type"] == "missing":
            path.append(part)
        elif _has(node, part) and (not is_last or node[part] is fault["input"]):
            node = node[part]
            path.append(part)
        else:
            unions.add(len(path))
    return _Fault(fault, tuple(path), frozenset(unions))


def _has(node: object, part: int | str) -> bool:
    if isinstance(part, int):
        return isinstance(node, list) and part < len(cast("list[object]", node))
    return isinstance(node, Mapping) and part in node


def _told(path: Path, faults: Sequence[ErrorDetails], model: type[BaseModel], hidden: Collection[str]) -> str:
    name, fault = _name(path) or "the argument object", faults[0]
    context: Mapping[str, Any] = fault.get("ctx", {})
    match fault["type"]:
        case "missing":
            return f"{name} is required"
        case "extra_forbidden":
            return unknown(path, model, hidden)
        case "value_error":
            return f"{name} {context.get('error')}"
        case "too_short" | "too_long":
            return f"{name} {_length(fault['input'], context)}"
        case _:
            wanted = list(dict.fromkeys(map(_wanted, faults)))
            wanted[1:] = [each.removeprefix("be ") for each in wanted[1:]]
            return f"{name} is {_shown(fault['input'])}; it must {' or '.join(wanted)}"


def _wanted(fault: ErrorDetails) -> str:
    if fault["type"] == "literal_error":
        return f"be one of {fault.get('ctx', {}).get('expected')}"
    text = fault["msg"].removeprefix("Input should ").removeprefix("String should ")
    text = text.partition(" or instance of ")[0]  # which names a class of ours
    return text.replace("a valid dictionary", "an object")


def _length(given: Sized, context: Mapping[str, Any]) -> str:
    if "max_length" not in context:
        return "must not be empty"
    what = "characters" if isinstance(given, str) else "elements"
    return f"has {len(given):,} {what}; at most {context['max_length']:,} are accepted"


def _name(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _accepted(path: Path, model: type[BaseModel]) -> list[str]:
    """The names that are accepted at a place: of the request itself, or of the elements of one of its lists."""
    schema = model.model_json_schema()
    nodes = list(_options(schema, schema))
    for part in path:
        found = [node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part) for node in nodes]
        nodes = [option for node in found if node for option in _options(schema, node)]
    return list(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))


def _options(schema: Node, node: Node) -> Iterator[Node]:
    """What a value may be."""
    if reference := node.get("$ref"):
        node = schema["$defs"][str(reference).rsplit("/", 1)[-1]]
    for option in cast("Sequence[Node]", node.get("anyOf", ())):
        yield from _options(schema, option)
    yield node


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
