"""The OpenAPI document, from the models that validate requests and results; built when it is first asked for."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clinvk import __version__
from clinvk.errors import Failure
from clinvk.gateway import anthropic, openai, reading
from clinvk.gateway.calls import OPERATIONS
from clinvk.gateway.replay import EventsQuery
from clinvk.request import RunsRequest, SessionsRequest
from clinvk.response import BackendsResult, CancelResult, RunsResult, SessionEditResult, SessionsResult

PATH = "/openapi.json"
REF = "#/components/schemas/{model}"
HEADERS = {
    "Prefer": "`respond-async` answers 202 at once, as `background` does.",
    "Last-Event-ID": "Only the events after this one.",
    "X-Clinvk-Session": "Continues this session; only what the user said last is sent.",
    "X-Clinvk-Workdir": "Directory that the agent works in.",
}
Json = dict[str, Any]
References = dict[Any, Json]  # by model: no model is both a request and a result


class ErrorBody(BaseModel):
    """What could not be done, and what to do about it."""

    error: Failure


class Health(BaseModel):
    """Whether the server can do its work."""

    status: Literal["ok", "degraded", "unhealthy"]
    reason: str | None
    version: str
    uptime_ms: int
    backends: list[dict[str, Any]]
    session_store: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    without: Sequence[str] = ()  # fields of the query's model that the path says
    results: Sequence[type[BaseModel]] = ()
    status: int = 200
    also: Sequence[str] = ()  # further media types of the answer
    headers: Sequence[str] = ()
    responses: dict[str, str] = field(default_factory=dict[str, str])
    public: bool = False


_NEW: dict[str, str] = {"202": "It goes on in the background; `Location` is where."}


def described() -> list[Described]:
    """Every route."""
    starts = [
        Described(
            method="post",
            path=f"/api/v1/{op.name}",
            name=op.name,
            summary=(op.call.__doc__ or "").strip(),
            tag="run",
            body=op.call,
            results=op.results,
            also=("application/x-ndjson", "text/event-stream"),
            headers=("Prefer",),
            responses=_NEW,
        )
        for op in OPERATIONS
    ]
    return [*starts, *_looking(), *_chatting()]


def _looking() -> list[Described]:
    session, run = "/api/v1/sessions/{id}", "/api/v1/runs/{id}"
    return [
        Described(method="get", path="/api/v1/backends", name="list_backends", tag="look", results=(BackendsResult,),
                  summary="Every backend on this machine, and the limits under which runs are admitted."),
        Described(method="get", path="/api/v1/sessions", name="list_sessions", tag="look", results=(SessionsResult,),
                  summary="A page of the sessions; with `query` those that hold it.",
                  query=SessionsRequest, without=reading.LISTED_SESSIONS),
        Described(method="get", path=session, name="show_session", tag="look", results=(SessionsResult,),
                  summary="One session with a page of its turns.",
                  query=SessionsRequest, without=reading.SHOWN_SESSION),
        Described(method="delete", path=session, name="delete_session", tag="look", results=(SessionEditResult,),
                  summary="Remove a session."),
        Described(method="post", path=f"{session}/fork", name="fork_session", tag="look", status=201,
                  results=(SessionEditResult,), summary="Make a session that begins as this one."),
        Described(method="get", path="/api/v1/runs", name="list_runs", tag="look", results=(RunsResult,),
                  summary="A page of the runs; those whose result nobody fetched come first.",
                  query=RunsRequest, without=reading.LISTED_RUNS),
        Described(method="get", path=run, name="show_run", tag="look", results=(RunsResult,),
                  query=RunsRequest, without=reading.SHOWN_RUN,
                  summary="A run with its result, or how far it has come; `wait_secs` waits for its end."),
        Described(method="delete", path=run, name="cancel_run", tag="look", results=(CancelResult,),
                  summary="Stop a run and everything it started."),
        Described(method="get", path=f"{run}/events", name="run_events", tag="look", also=("text/event-stream",),
                  headers=("Last-Event-ID",), query=EventsQuery,
                  responses={"204": "There are no more events, and there will be none."},
                  summary="The events of a run as they come, from the beginning or after `Last-Event-ID`."),
        Described(method="get", path=f"{run}/output", name="run_output", tag="look", results=(RunsResult,),
                  query=RunsRequest, without=reading.OUTPUT_OF_RUN,
                  summary="A page of a run's whole output; with `query` the lines that hold it."),
        Described(method="get", path="/health", name="health", tag="look", results=(Health,), public=True,
                  responses={"503": "It cannot do its work; `reason` says why."},
                  summary="Whether the server can do its work."),
    ]  # fmt: skip


def _chatting() -> list[Described]:
    headers, both = ("X-Clinvk-Session", "X-Clinvk-Workdir"), ("application/json", "text/event-stream")
    return [
        Described(method="post", path=f"{openai.PATH}/chat/completions", name="openai_chat", tag="chat",
                  headers=headers, body=openai.ChatCompletionRequest, also=both,
                  summary="OpenAI's chat completions, for its SDKs."),
        Described(method="get", path=f"{openai.PATH}/models", name="openai_models", tag="chat",
                  also=("application/json",), summary="The models that can be named."),
        Described(method="post", path=f"{anthropic.PATH}/messages", name="anthropic_messages", tag="chat",
                  headers=headers, body=anthropic.MessagesRequest, also=both,
                  summary="Anthropic's messages, for its SDKs."),
    ]  # fmt: skip


@cache
def document() -> Json:
    """The whole document."""
    every = described()
    bodies = dict.fromkeys(one.body for one in every if one.body is not None)
    answers: dict[type[BaseModel], None] = dict.fromkeys(model for one in every for model in one.results)
    answers[ErrorBody] = None
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in bodies]
    modes.extend((model, "serialization") for model in answers)
    schemas, definitions = models_json_schema(modes, ref_template=REF)
    references: References = {model: schema for (model, _), schema in schemas.items()}
    paths: dict[str, Json] = {}
    for one in every:
        paths.setdefault(one.path, {})[one.method] = _operation(one, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clinvk",
            "version": __version__,
            "description": "Every AI agent CLI of this machine through one API. MCP is served at /mcp.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}, {}],
        "tags": [
            {"name": "run", "description": "Start runs."},
            {"name": "look", "description": "Look at backends, sessions and runs, and put them right."},
            {"name": "chat", "description": "The chat APIs that other programs speak already."},
        ],
    }


def _operation(one: Described, references: References) -> Json:
    operation: Json = {"operationId": one.name, "summary": one.summary, "tags": [one.tag]}
    parameters = [*_path_parameters(one), *_query_parameters(one)]
    parameters += [
        {"name": name, "in": "header", "description": HEADERS[name], "schema": {"type": "string"}}
        for name in one.headers
    ]
    if parameters:
        operation["parameters"] = parameters
    if one.body is not None:
        schema = references[one.body]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["responses"] = _responses(one, references)
    if one.public:
        operation["security"] = []
    return operation


def _path_parameters(one: Described) -> list[Json]:
    if "{id}" not in one.path:
        return []
    text = "The id, or the beginning of it that no other has."
    return [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string", "minLength": 1},
        }
    ]


def _query_parameters(one: Described) -> list[Json]:
    if one.query is None:
        return []
    properties: Json = one.query.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "schema": {key: value for key, value in schema.items() if key != "title"}}
        for name, schema in properties.items()
        if name not in one.without
    ]


def _responses(one: Described, references: References) -> Json:
    schemas = [references[model] for model in one.results]
    content: Json = {name: {} for name in one.also}
    if schemas:
        content["application/json"] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    responses: Json = {str(one.status): {"description": "Done.", "content": content}}
    for status, text in one.responses.items():
        responses[status] = {"description": text}
        if schemas and status != "204":
            responses[status]["content"] = {"application/json": content["application/json"]}
    # A prompt that failed has the status of its error, and its partial output in the body.
    failed: list[Json] = [references[ErrorBody], *(schemas if one.tag == "run" else [])]
    shape: Json = {"anyOf": failed} if len(failed) > 1 else failed[0]
    told: Json = {} if one.tag == "chat" else {"schema": shape}
    responses["default"] = {
        "description": "It could not be done; `error` says why and what to do.",
        "content": {"application/json": told},
    }
    return responses


def endpoint() -> Callable[[Request], Awaitable[Response]]:
    """GET /openapi.json."""

    async def show(_request: Request) -> Response:
        return JSONResponse(document())

    return show
