"""The body of a request as a model."""

import json
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from clinvk.errors import ClinvkError
from clinvk.tools.faults import validated

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
        value: object = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ClinvkError("invalid_request", f"the body is not JSON: {error}", hint="send one JSON object") from error
    return value


def query_of(request: Request, model: type[Model], **more: str) -> Model:
    """The query parameters as a model. Raises ClinvkError(invalid_request)."""
    given: dict[str, object] = {}
    for name, value in request.query_params.multi_items():
        if name in given or name in more:
            raise ClinvkError(
                "invalid_request", f"{name} cannot be given here, or not twice", details={"field": name, "value": value}
            )
        given[name] = value
    return validated(model, {**given, **more})
