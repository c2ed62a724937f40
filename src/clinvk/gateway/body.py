"""The body of a request as a model."""

import json
from collections import Counter
from collections.abc import Collection
from typing import NoReturn, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from clinvk.errors import ClinvkError
from clinvk.tools.faults import unknown, validated

Model = TypeVar("Model", bound=BaseModel)


async def parsed(request: Request, model: type[Model]) -> Model:
    """The body, validated. Raises ClinvkError(invalid_request) that names field, value and what is accepted."""
    return validated(model, await json_of(request))


async def json_of(request: Request) -> object:
    """The body as JSON. Raises ClinvkError(invalid_request)."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # A page of another origin may send forms and plain text without asking first, but not JSON.
        raise ClinvkError(
            "invalid_request",
            f"Content-Type is {kind!r}; accepted: application/json",
            hint="send the request as JSON",
            details={"field": "Content-Type", "value": kind, "accepted": ["application/json"]},
        )
    try:
        value: object = json.loads(await request.body(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ClinvkError("invalid_request", f"the body is not JSON: {error}", hint="send one JSON object") from error
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; of a name that stands there twice nobody knows which was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name[:60]!r} stands twice in one object")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number there")


def query_of(request: Request, model: type[Model], without: Collection[str] = (), **more: str) -> Model:
    """The query parameters as a model; `without` are its fields that no query may give, `more` those of the route.

    Raises ClinvkError(invalid_request).
    """
    given: dict[str, object] = {}
    for name, value in request.query_params.multi_items():
        if name in without:
            raise _bad(name, value, unknown((name,), model, without))
        if name in given:
            raise _bad(name, value, f"{name} stands twice in the query")
        given[name] = value
    return validated(model, {**given, **more}, hidden=without)


def _bad(name: str, value: str, why: str) -> ClinvkError:
    return ClinvkError("invalid_request", why, hint="correct the request", details={"field": name, "value": value})
