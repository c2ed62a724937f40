"""Anthropic's messages, so that its SDKs can use any backend unchanged."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Scope

from clinvk.errors import Failure
from clinvk.gateway import answers, chat
from clinvk.gateway.attended import attended
from clinvk.gateway.body import json_of
from clinvk.gateway.chat import Chat, ChatOptions, Image, Message, bad
from clinvk.gateway.feed import Said
from clinvk.gateway.openai import SessionOf, begun_headers, failed, headers_of, told_at_the_end
from clinvk.gateway.service import Service, trail_of
from clinvk.gateway.stream import SSE, sse
from clinvk.gateway.streamed import Streamed
from clinvk.gateway.texts import Texts, text_of
from clinvk.request import Flag, Object, Text
from clinvk.response import PromptResult
from clinvk.tools.faults import validated

PATH = "/anthropic/v1"
# Parameters that change what is answered, and the values by which they ask for nothing.
REFUSED: Mapping[str, Sequence[object]] = {
    "tools": ([],),
    "tool_choice": ({"type": "none"}, {"type": "auto"}),
    "stop_sequences": ([],),
    "mcp_servers": ([],),
    "container": (),
}
HINT = "agents bring tools of their own; output_config.format asks for an answer of a given shape"
SILENT = ("thinking", "redacted_thinking")  # blocks of earlier answers that the API itself does not show a model again


class Source(BaseModel):
    """Where a picture or document comes from."""

    model_config = ConfigDict(extra="allow")

    type: str
    media_type: str = ""
    data: str = ""


class Block(BaseModel):
    """A block of a message's content."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: Text | None = None
    source: Source | None = None
    name: str | None = None
    input: Any = None
    content: "str | list[Block] | None" = None
    is_error: Flag | None = None
    id: str | None = None
    tool_use_id: str | None = None


class AnthropicMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["user", "assistant", "system"]
    content: Text | list[Block]


class OutputFormat(BaseModel):
    """The schema that the answer must fit."""

    model_config = ConfigDict(extra="allow")

    type: Literal["json_schema"]
    schema_: Object = Field(alias="schema")


class OutputConfig(BaseModel):
    """How the answer is to be."""

    model_config = ConfigDict(extra="allow")

    format: OutputFormat | None = None


class MessagesRequest(BaseModel):
    """What is honoured of Anthropic's request; see `X-Clinvk-Ignored` for the rest."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="A backend, `backend/model`, or an alias.")
    messages: list[AnthropicMessage] = Field(
        min_length=1, description="The conversation; the last ones are the user's question."
    )
    system: Text | list[Block] | None = Field(default=None, description="Instructions beside the conversation.")
    stream: Flag | None = Field(default=None, description="Answer in pieces, as server-sent events.")
    output_config: OutputConfig | None = Field(default=None, description="`format` says what the answer must be.")
    metadata: Object | None = None
    clinvk: ChatOptions | None = Field(default=None, description="What only clinvk knows.")


HONOURED = frozenset(MessagesRequest.model_fields)


def endpoint(service: Service) -> Callable[[Request], Awaitable[ASGIApp]]:
    """POST /anthropic/v1/messages."""

    async def handle(request: Request) -> ASGIApp:
        trail_of(request.scope).operation = "anthropic_messages"
        service.drain.check()
        body = validated(MessagesRequest, await json_of(request))
        asked = understood(body)
        chat.target(service.app, asked.model)

        async def work(listener: Any) -> PromptResult:
            return await chat.answered(service, request, asked, listener)

        if body.stream:
            blocks = Blocks(request.scope, asked, service.session_of)
            return Streamed(request, work, blocks, trail_of(request.scope).ended)
        result = await attended(request, lambda: work(None))
        trail_of(request.scope).ended(result)
        return completed(request.scope, asked, result)

    return handle


def understood(body: MessagesRequest) -> Chat:
    """The call. Raises ClinvkError for what cannot be honoured."""
    ignored = chat.judged(body.model_extra or {}, HONOURED, REFUSED, HINT)
    for name in ("system", "messages", "output_config"):
        ignored += dict.fromkeys(chat.unread(getattr(body, name), name))
    said = [_message(m, f"messages[{n}]") for n, m in enumerate(body.messages) if m.role != "system"]
    system = [_texts(m.content, f"messages[{n}].content") for n, m in enumerate(body.messages) if m.role == "system"]
    form = body.output_config.format if body.output_config else None
    return Chat(
        model=body.model,
        messages=said,
        system="\n\n".join([_texts(body.system or "", "system"), *system]).strip() or None,
        system_name="system" if body.system else "messages",
        schema=form.schema_ if form else None,
        schema_name="output_config.format.schema",
        metadata=body.metadata or {},
        options=body.clinvk or ChatOptions(),
        ignored=ignored,
    )


def _message(message: AnthropicMessage, where: str) -> Message:
    role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
    return Message(role, _texts(message.content, f"{where}.content"), _images(message.content, f"{where}.content"))


def _texts(content: str | list[Block], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = [_text(block, f"{where}[{number}]") for number, block in enumerate(content)]
    return "\n".join(text for text in texts if text)


def _text(block: Block, where: str) -> str:
    match block.type:
        case "text":
            return block.text or ""
        case "image":
            return ""
        case "document" if block.source is not None and block.source.type == "text":
            return f"<document>\n{block.source.data}\n</document>"
        case "tool_use":
            return f"[called {block.name} with {block.input}]"
        case "tool_result":
            what = "a tool, which failed" if block.is_error else "a tool"
            return f"[result of {what}]\n{_texts(block.content or '', f'{where}.content')}"
        case kind if kind in SILENT:
            return ""
        case kind:
            raise bad(f"{where}.type", f"is {kind!r}; accepted: text, image, document with a text source", kind)


def _images(content: str | list[Block], where: str) -> tuple[Image, ...]:
    if isinstance(content, str):
        return ()
    found: list[Image] = []
    for number, block in enumerate(content):
        if block.type == "tool_result":
            found += _images(block.content or "", f"{where}[{number}].content")
        if block.type != "image":
            continue
        source = block.source
        if source is None or source.type != "base64":
            # Fetching what a client names would make the gateway a way into the network it stands in.
            raise bad(f"{where}[{number}].source.type", "must be base64; pictures are not fetched")
        found.append(chat.image(f"{where}[{number}].source.media_type", source.media_type, source.data))
    return tuple(found)


STOP = {"max_tokens": "max_tokens", "length": "max_tokens", "refusal": "refusal"}


def _stop(result: PromptResult) -> str:
    return STOP.get(result.stop_reason or "", "end_turn")


def _usage(result: PromptResult) -> dict[str, Any]:
    """Numbers that nobody knows are 0: the API has no other way. Cached tokens stand apart, as the API has them."""
    usage = result.token_usage
    cached = usage.cached_tokens or 0
    return {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached),
        "output_tokens": usage.output_tokens or 0,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }


def completed(scope: Scope, asked: Chat, result: PromptResult) -> ASGIApp:
    """The answer to a call that is not streamed."""
    if result.error is not None:
        return failed(scope, asked, result, result.error)
    text = text_of(result)
    body = {
        **_head(result.run_id, _model(result)),
        "content": [{"type": "text", "text": text, "citations": None}] if text else [],
        "stop_reason": _stop(result),
        "usage": _usage(result),
    }
    return JSONResponse(body, headers=headers_of(asked, result))


def _model(result: PromptResult) -> str:
    return f"{result.backend}/{result.model}" if result.model else result.backend


def _head(run_id: str, model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{run_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


class Blocks:
    """Satisfies `Rendering`: one message of one text block."""

    media_type = SSE

    def __init__(self, scope: Scope, asked: Chat, session_of: SessionOf) -> None:
        self._session_of = session_of
        self._request_id: str = scope.get("clinvk.request_id", "")
        self._asked = asked
        self._texts = Texts(whole=asked.schema is not None)
        self._run_id = ""

    def is_worth_starting(self, items: Sequence[Said]) -> bool:
        return self._asked.schema is None and any(item.event.type == "text_delta" for item in items)

    def headers(self, run_id: str) -> dict[str, str]:
        self._run_id = run_id
        return begun_headers(self._asked, run_id, self._session_of)

    def begin(self) -> bytes:
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = {**_head(self._run_id, self._asked.model), "usage": usage}
        block = {"type": "text", "text": ""}
        return _event("message_start", message=message) + _event("content_block_start", index=0, content_block=block)

    def said(self, item: Said) -> bytes:
        return _delta(self._texts.of(item.event))

    def heartbeat(self) -> bytes:
        return _event("ping")

    def end(self, result: PromptResult) -> bytes:
        if result.error is not None:
            return self.failure(result.error)
        delta = {"stop_reason": _stop(result), "stop_sequence": None}
        return (
            _delta(self._texts.rest(result))
            + _event("content_block_stop", index=0)
            + _event("message_delta", delta=delta, usage=_usage(result), **told_at_the_end(result))
            + _event("message_stop")
        )

    def failure(self, failure: Failure) -> bytes:
        status = answers.anthropic_status(answers.STATUS[failure.code], failure)
        return sse(answers.anthropic_error(status, failure, self._request_id), event="error")

    def unstarted(self, scope: Scope, result: PromptResult) -> ASGIApp | None:
        return None if result.error is None else failed(scope, self._asked, result, result.error)


def _event(name: str, **fields: Any) -> bytes:
    return sse({"type": name, **fields}, event=name)


def _delta(text: str) -> bytes:
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) if text else b""
