"""The Anthropic Messages API, as Claude Code calls it."""

import itertools
import json
from typing import Any

from standin.script import Answer, Call, CallTool, Frames, Json, Recorded, Shell, Usage, WriteFile, pieces

_counter = itertools.count(1)
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
STOPS = {"end": "end_turn", "max_tokens": "max_tokens", "refusal": "refusal"}


def error_body(status: int, message: str) -> Json:
    """The error in the API's shape."""
    kind = _ERRORS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_standin"}


def message(answer: Answer, request: Recorded) -> Json:
    """The whole answer, for requests that do not stream."""
    blocks = _blocks(answer, request)
    return _message(request, blocks, _stop(answer, blocks), _usage(answer.usage))


def frames(answer: Answer, request: Recorded) -> Frames:
    """The answer as server-sent events."""
    blocks = _blocks(answer, request)
    start = _message(request, [], None, _usage(answer.usage) | {"output_tokens": 1})
    events: list[bytes] = [_event("message_start", {"message": start})]
    opening = 1
    for index, block in enumerate(blocks):
        deltas = _deltas(block, answer.deltas)
        events.append(_event("content_block_start", {"index": index, "content_block": _bare(block)}))
        events += [_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        events.append(_event("content_block_stop", {"index": index}))
        if index == 0:
            opening = 3
    ending = _event(
        "message_delta",
        {
            "delta": {"stop_reason": _stop(answer, blocks), "stop_sequence": None},
            "usage": _usage(answer.usage),
        },
    ) + _event("message_stop", {})
    return Frames(
        opening=b"".join(events[:opening]),
        middle=tuple(events[opening:]),
        ending=ending,
        error=_event("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
    )


def conversation(body: Json) -> list[tuple[str, str]]:
    """Role and text of every text block that the model is sent, oldest first."""
    found: list[tuple[str, str]] = []
    for turn in body.get("messages", []):
        content: Any = turn["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [(turn["role"], block["text"]) for block in blocks if block["type"] == "text"]
    return found


def tool_results(body: Json) -> list[str]:
    """What the tools gave back, oldest first."""
    found: list[str] = []
    for turn in body.get("messages", []):
        if isinstance(turn["content"], list):
            blocks: list[Any] = turn["content"]
            found += [_flat(block.get("content")) for block in blocks if block["type"] == "tool_result"]
    return found


def _flat(content: Any) -> str:
    parts: list[Any] = [{"text": content or ""}] if isinstance(content, str | None) else content
    return "".join(part.get("text", "") for part in parts)


def _event(kind: str, data: Json) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n".encode()


def _message(request: Recorded, blocks: list[Json], stop: str | None, usage: Json) -> Json:
    return {
        "id": f"msg_standin{next(_counter):04d}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }


def _stop(answer: Answer, blocks: list[Json]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else STOPS[answer.stop]


def _blocks(answer: Answer, request: Recorded) -> list[Json]:
    """Text, then tools; a structured answer is a call of the tool that Claude Code adds for it."""
    thoughts: Json = {"type": "thinking", "thinking": answer.thinking, "signature": "c2lnbmVk"}
    blocks: list[Json] = [thoughts] if answer.thinking else []
    blocks += [{"type": "text", "text": answer.text}] if answer.text else []
    calls: list[Call] = list(answer.calls)
    offered = {tool.get("name") for tool in request.body.get("tools", [])}
    if answer.structured is not None and "StructuredOutput" in offered:
        calls.append(CallTool("StructuredOutput", answer.structured))
    elif answer.structured is not None:
        blocks = [{"type": "text", "text": json.dumps(answer.structured)}]
    for call in calls:
        name, arguments = _tool(call)
        identity = f"toolu_standin{next(_counter):04d}"
        blocks.append({"type": "tool_use", "id": identity, "name": name, "input": arguments})
    return blocks


def _tool(call: Call) -> tuple[str, Json]:
    match call:
        case Shell(command):
            return "Bash", {"command": command, "description": "Run a command"}
        case WriteFile(path, content):
            return "Write", {"file_path": path, "content": content}
        case CallTool(name, arguments):
            return name, arguments


def _bare(block: Json) -> Json:
    empty: dict[str, Json] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return block | empty[block["type"]]


def _deltas(block: Json, count: int) -> list[Json]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], count)]
    if block["type"] == "thinking":
        thoughts: Json = {"type": "thinking_delta", "thinking": block["thinking"]}
        return [thoughts, {"type": "signature_delta", "signature": block["signature"]}]
    encoded = json.dumps(block["input"])
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(encoded, count)]
