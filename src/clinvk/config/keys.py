"""The tree of valid keys, and whether a value fits one."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from clinvk.config.leaves import Tree
from clinvk.config.problems import described, nearest
from clinvk.config.settings import BackendConfig, Config, TopLevel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

_MODELS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
_WANTED = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text; put it in quotes if it is",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "string_pattern_mismatch": "must match {pattern}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must not be empty",
}


def tree(known_backends: Collection[str]) -> Tree:
    """Every valid key as nested mappings; a leaf is None."""
    whole: dict[str, Tree | None] = {}
    for name in Config.model_fields:
        if name == "backends":
            whole[name] = {backend: dict.fromkeys(BackendConfig.model_fields) for backend in known_backends}
        elif name in _MODELS:
            whole[name] = dict.fromkeys(_MODELS[name].model_fields)
        else:
            whole[name] = None
    return whole


def leaves(below: Tree, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every leaf key of a tree."""
    for name, branch in below.items():
        if branch is None:
            yield (*prefix, name)
        else:
            yield from leaves(branch, (*prefix, name))


def model_of(key: tuple[str, ...]) -> type[BaseModel]:
    """The model whose field a leaf key is."""
    if len(key) == 1:
        return TopLevel
    return BackendConfig if key[0] == "backends" else _MODELS[key[0]]


def assembled(given: Mapping[tuple[str, ...], object], known_backends: Collection[str], user_home: Path) -> Config:
    """The configuration in which these leaf keys have these values, which fit them, and all others their defaults."""
    sections: dict[tuple[str, ...], dict[str, object]] = {}
    for key, value in given.items():
        sections.setdefault(key[:-1], {})[key[-1]] = value

    def made(place: tuple[str, ...], model: type[Model]) -> Model:
        if place not in sections:  # a validator that has nothing to do need not be built
            return model.model_construct()
        return model.model_validate(sections[place], context={"user_home": user_home})

    whole: dict[str, Any] = {name: made((name,), model) for name, model in _MODELS.items()}
    return Config.model_construct(
        default_backend=made((), TopLevel).default_backend,
        backends={name: made(("backends", name), BackendConfig) for name in known_backends},
        **whole,
    )


def describe(known_backends: Collection[str]) -> list[tuple[str, object, str]]:
    """Key, default and meaning of every key, for the reference."""
    rows: list[tuple[str, object, str]] = []
    for key in leaves(tree(known_backends)):
        field = model_of(key).model_fields[key[-1]]
        rows.append((".".join(key), field.get_default(call_default_factory=True), field.description or ""))
    return rows


def faults(key: tuple[str, ...], value: object, known_backends: Collection[str], user_home: Path) -> list[str]:
    """What is wrong with a value for a leaf key, as messages; none if it fits."""
    if key == ("default_backend",) and isinstance(value, str) and value and value not in known_backends:
        return [f"default_backend is {value!r}; {nearest(value, known_backends)}"]
    try:
        model_of(key).model_validate({key[-1]: value}, context={"user_home": user_home})
    except ValidationError as error:
        return [_fault(key, details) for details in error.errors(include_url=False)]
    return []


def _fault(key: tuple[str, ...], details: "ErrorDetails") -> str:
    inner = tuple(str(part) for part in details["loc"][1:] if not isinstance(part, int) and part != "[key]")
    full = (*key, *inner)
    said = _said(details["type"], details.get("ctx", {}), details["msg"], details["input"])
    if "[key]" in details["loc"]:
        return f"the name {'.'.join(full)} {said}"
    return f"{'.'.join(full)} is {described(full, details['input'])}; {said}"


def unknown_key(key: tuple[str, ...], whole: Tree) -> str:
    """The message for a key that is not in the tree: names the nearest valid one."""
    level, wrong = whole, key[-1]
    for name in key:
        below = level.get(name)
        if below is None:
            wrong = name
            break
        level = below
    else:
        return f"'{'.'.join(key)}' is a section; name one of its keys: {', '.join(sorted(level))}"
    dotted = ".".join(key)
    if wrong in level:
        return f"unknown key '{dotted}'; '{wrong}' has no keys below it"
    elsewhere = [".".join(leaf) for leaf in leaves(whole) if leaf[-1] == key[-1] and leaf[0] != "backends"]
    advice = nearest(wrong, level)
    if elsewhere and not advice.startswith("did"):
        advice = f"did you mean {' or '.join(repr(name) for name in elsewhere)}?"
    return f"unknown key '{dotted}'; {advice}"


def _said(kind: str, context: dict[str, Any], message: str, value: object) -> str:
    if kind == "literal_error":
        choices = [choice.strip(" '") for choice in str(context["expected"]).replace(" or ", ",").split(",")]
        accepted = f"accepted: {', '.join(choices)}"
        close = nearest(str(value), choices)
        return f"{close} {accepted}" if close.startswith("did") else accepted
    if kind == "value_error":
        return str(context["error"])
    wanted = _WANTED.get(kind)
    return wanted.format(**context) if wanted else message
