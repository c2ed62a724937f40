"""OpenAI's chat completions, so that its SDKs can use any backend unchanged."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Scope

from clinvk.errors import ClinvkError, Failure
from clinvk.gateway import answers, chat
from clinvk.gateway.attended import attended
from clinvk.gateway.body import json_of
from clinvk.gateway.chat import Chat, ChatOptions, Image, Message, bad
from clinvk.gateway.feed import Said
from clinvk.gateway.service import Service, trail_of
from clinvk.gateway.stream import SSE, sse
from clinvk.gateway.streamed import Streamed
from clinvk.gateway.texts import Texts, text_of
from clinvk.request import Flag, Object, Text
from clinvk.response import PromptResult
from clinvk.tools.faults import validated

PATH = "/openai/v1"
OBJECT_SCHEMA: dict[str, Any] = {"type": "object"}
# Parameters that change what is answered, and the values by which they ask for nothing.
REFUSED: Mapping[str, Sequence[object]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([], ""),
    "audio": (),
    "modalities": (["text"],),
    "web_search_options": (),
}
HINT = "agents bring tools of their own; response_format asks for an answer of a given shape"
_UNFIT = re.compile(r"[^ -~]")  # for a header


class ImageUrl(BaseModel):
    """A picture."""

    model_config = ConfigDict(extra="allow")

    url: str


class Part(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: Text | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    tool_call_id: str | None = None


class StreamOptions(BaseModel):
    """What a stream holds besides the answer."""

    model_config = ConfigDict(extra="allow")

    include_usage: Flag = False


class JsonSchema(BaseModel):
    """The schema that the answer must fit."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    strict: Flag | None = None  # the answer fits in any case
    schema_: Object = Field(default_factory=lambda: OBJECT_SCHEMA, alias="schema")


class ResponseFormat(BaseModel):
    """What the answer must look like."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatCompletionRequest(BaseModel):
    """What is honoured of OpenAI's request; see `X-Clinvk-Ignored` for the rest."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="A backend, `backend/model`, or an alias.")
    messages: list[ChatMessage] = Field(
        min_length=1, description="The conversation; the last ones are the user's question."
    )
    stream: Flag | None = Field(default=None, description="Answer in pieces, as server-sent events.")
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = Field(default=None, description="What the answer must be.")
    metadata: Object | None = None
    user: Text | None = None
    clinvk: ChatOptions | None = Field(default=None, description="What only clinvk knows.")


HONOURED = frozenset(ChatCompletionRequest.model_fields)
SessionOf = Callable[[str], str | None]  # by the id of a run


def endpoint(service: Service) -> Callable[[Request], Awaitable[ASGIApp]]:
    """POST /openai/v1/chat/completions."""

    async def handle(request: Request) -> ASGIApp:
        trail_of(request.scope).operation = "openai_chat"
        service.drain.check()
        given = await json_of(request)
        body = validated(ChatCompletionRequest, given)
        asked = understood(body)
        chat.target(service.app, asked.model)

        async def work(listener: Any) -> PromptResult:
            return await chat.answered(service, request, asked, listener)

        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            chunks = Chunks(asked, service.session_of, include_usage=usage)
            return Streamed(request, work, chunks, trail_of(request.scope).ended)
        result = await attended(request, lambda: work(None))
        trail_of(request.scope).ended(result)
        return completed(request.scope, asked, result)

    return handle


def understood(body: ChatCompletionRequest) -> Chat:
    """The call. Raises ClinvkError for what cannot be honoured."""
    ignored = chat.judged(body.model_extra or {}, HONOURED, REFUSED, HINT)
    if body.stream_options is not None and not body.stream:
        raise bad("stream_options", "is only allowed when stream is true; this call asks for no stream")
    for name in ("messages", "response_format", "stream_options"):
        ignored += dict.fromkeys(chat.unread(getattr(body, name), name))
    system = [_text(message, n) for n, message in enumerate(body.messages) if message.role in ("system", "developer")]
    if body.response_format is not None and body.response_format.type != "json_schema":
        ignored += ["response_format.json_schema"] if body.response_format.json_schema else []
    schema, metadata = _schema(body.response_format), dict(body.metadata or {})
    if body.user is not None and metadata.setdefault("user", body.user) != body.user:
        raise bad("user", f"is {body.user!r}, but metadata.user is {metadata['user']!r}; leave one of them out")
    return Chat(
        model=body.model,
        messages=[_message(m, n) for n, m in enumerate(body.messages) if m.role not in ("system", "developer")],
        system="\n\n".join(system) or None,
        schema=schema,
        schema_name="response_format" if schema is OBJECT_SCHEMA else "response_format.json_schema.schema",
        metadata=metadata,
        options=body.clinvk or ChatOptions(),
        ignored=ignored,
    )


def _schema(form: ResponseFormat | None) -> dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return OBJECT_SCHEMA
    if form.json_schema is None:
        raise bad("response_format.json_schema", "is required")
    return form.json_schema.schema_


def _message(message: ChatMessage, number: int) -> Message:
    text = _text(message, number)
    functions = [call.get("function") for call in message.tool_calls or ()]
    for function in filter(None, [*functions, message.function_call]):
        text += f"\n[called {function.get('name')} with {function.get('arguments')}]"
    if message.role in ("tool", "function"):
        text = f"[result of a tool]\n{text}"
    role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
    return Message(role, text.lstrip("\n") if functions or message.function_call else text, _images(message, number))


def _text(message: ChatMessage, number: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or message.refusal or ""
    texts: list[str] = []
    for place, part in enumerate(message.content):
        if part.type in ("text", "refusal"):
            texts.append(part.text or part.refusal or "")
        elif part.type != "image_url" or message.role != "user":
            where = f"messages[{number}].content[{place}].type"
            raise bad(where, f"is {part.type!r}; accepted: text, and image_url of a user", part.type)
    return "\n".join(texts)


def _images(message: ChatMessage, number: int) -> tuple[Image, ...]:
    if not isinstance(message.content, list):
        return ()
    found: list[Image] = []
    for place, part in enumerate(message.content):
        if part.type == "image_url":
            where = f"messages[{number}].content[{place}].image_url.url"
            found.append(_image(where, part.image_url.url if part.image_url else ""))
    return tuple(found)


def _image(where: str, url: str) -> Image:
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        # Fetching what a client names would make the gateway a way into the network it stands in.
        raise bad(where, "must be a data: URL in base64; pictures are not fetched")
    kind = head.removeprefix("data:").removesuffix(";base64").partition(";")[0]
    return chat.image(where, kind, unquote_to_bytes(data).decode("ascii", "replace"))


FINISH = {"max_tokens": "length", "length": "length", "refusal": "content_filter"}


def _finish(result: PromptResult) -> str:
    return FINISH.get(result.stop_reason or "", "stop")


def _usage(result: PromptResult) -> dict[str, Any] | None:
    """None when the backend did not say: an unknown number is not 0."""
    usage = result.token_usage
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def headers_of(asked: Chat, result: PromptResult | None = None) -> dict[str, str]:
    """What both APIs say of a call beside its answer."""
    headers: dict[str, str] = {}
    if asked.ignored:
        # The names are the client's own words: a line break among them would begin another header.
        headers[chat.IGNORED_HEADER] = _UNFIT.sub("?", ", ".join(asked.ignored))[:1000]
    if result is not None:
        headers["X-Clinvk-Run"] = result.run_id
        if result.session_id:
            headers[chat.SESSION_HEADER] = result.session_id
        if result.warnings:
            headers[chat.WARNING_HEADER] = _UNFIT.sub("?", "; ".join(result.warnings))[:1000]
    return headers


def begun_headers(asked: Chat, run_id: str, session_of: SessionOf) -> dict[str, str]:
    """The same of a call whose stream begins; `run_id` is empty when its run has not begun."""
    headers = headers_of(asked)
    if run_id:
        headers["X-Clinvk-Run"] = run_id
        if session_id := session_of(run_id):
            headers[chat.SESSION_HEADER] = session_id
    return headers


def told_at_the_end(result: PromptResult) -> dict[str, Any]:
    """What a stream can say only when its headers are long gone."""
    return {"clinvk": {"warnings": result.warnings}} if result.warnings else {}


def completed(scope: Scope, asked: Chat, result: PromptResult) -> ASGIApp:
    """The answer to a call that is not streamed."""
    if result.error is not None:
        return failed(scope, asked, result, result.error)
    body = {
        "id": f"chatcmpl-{result.run_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": _model(result),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text_of(result), "refusal": None},
                "finish_reason": _finish(result),
                "logprobs": None,
            }
        ],
        "usage": _usage(result),
    }
    return JSONResponse(body, headers=headers_of(asked, result))


def failed(scope: Scope, asked: Chat, result: PromptResult, error: Failure) -> ASGIApp:
    """A failure in the API's own shape, with what there is of the answer."""
    answer = answers.of_failure(scope, error, result=result)
    answer.headers.update(headers_of(asked, result))
    if result.output:
        answer.headers["X-Clinvk-Partial"] = "true"
    return answer


def _model(result: PromptResult) -> str:
    return f"{result.backend}/{result.model}" if result.model else result.backend


class Chunks:
    """Satisfies `Rendering`: chat.completion.chunk objects."""

    media_type = SSE

    def __init__(self, asked: Chat, session_of: SessionOf, *, include_usage: bool) -> None:
        self._asked = asked
        self._session_of = session_of
        self._texts = Texts(whole=asked.schema is not None)
        self._include_usage = include_usage
        self._model = asked.model
        self._id = "chatcmpl-"
        self._created = int(time.time())

    def is_worth_starting(self, items: Sequence[Said]) -> bool:
        return self._asked.schema is None and any(item.event.type == "text_delta" for item in items)

    def headers(self, run_id: str) -> dict[str, str]:
        self._id = f"chatcmpl-{run_id}"
        return begun_headers(self._asked, run_id, self._session_of)

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def said(self, item: Said) -> bytes:
        text = self._texts.of(item.event)
        return self._chunk({"content": text}) if text else b""

    def heartbeat(self) -> bytes:
        return b": alive\n\n"

    def end(self, result: PromptResult) -> bytes:
        if result.error is not None:
            return self.failure(result.error)
        self._model = _model(result)
        rest = self._texts.rest(result)
        pieces = self._chunk({"content": rest}) if rest else b""
        pieces += self._chunk({}, _finish(result), **told_at_the_end(result))
        if self._include_usage:
            pieces += sse({**self._head(), "choices": [], "usage": _usage(result)})
        return pieces + b"data: [DONE]\n\n"

    def failure(self, failure: Failure) -> bytes:
        return sse(answers.openai_error(answers.openai_status(answers.STATUS[failure.code]), failure))

    def unstarted(self, scope: Scope, result: PromptResult) -> ASGIApp | None:
        return None if result.error is None else failed(scope, self._asked, result, result.error)

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        usage = {"usage": None} if self._include_usage else {}
        return sse({**self._head(), "choices": [choice], **usage, **more})


def models(service: Service) -> Callable[[Request], Awaitable[ASGIApp]]:
    """GET /openai/v1/models, and one of them by name."""

    async def handle(request: Request) -> ASGIApp:
        trail_of(request.scope).outcome = "completed"
        every = {name: _described(name, backend) for name, backend in chat.names(service.app)}
        wanted: str | None = request.path_params.get("model")
        if wanted is None:
            return JSONResponse({"object": "list", "data": list(every.values())})
        if wanted not in every:
            backend, _ = chat.target(service.app, wanted)
            if backend not in every:
                details = {"field": "model", "value": wanted}
                raise ClinvkError("model_unknown", f"the backend of {wanted!r} cannot be used here", details=details)
        return JSONResponse(every.get(wanted) or _described(wanted, chat.target(service.app, wanted)[0]))

    return handle


def _described(name: str, backend: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": backend}
