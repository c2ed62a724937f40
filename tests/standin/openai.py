"""The OpenAI Responses API, as Codex calls it."""

import itertools
import json
from typing import Any

from standin.script import Answer, Call, CallTool, Frames, Json, Recorded, Shell, Usage, WriteFile, pieces

_counter = itertools.count(1)
_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    503: "server_is_overloaded",
}


def error_body(status: int, message: str) -> Json:
    """The error in the API's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}}


def message(answer: Answer, request: Recorded) -> Json:
    """The whole answer, for requests that do not stream."""
    return _response(answer, request, _items(answer, request), _status(answer))


def frames(answer: Answer, request: Recorded) -> Frames:
    """The answer as server-sent events."""
    items = _items(answer, request)
    begun = _response(answer, request, [], "in_progress")
    events = [_event("response.created", {"response": begun})]
    opening = 1
    for index, item in enumerate(items):
        if item["type"] == "message":
            opening = 4
        events += _item_events(index, item, answer.deltas)
    status = _status(answer)
    ending = _event(f"response.{status}", {"response": _response(answer, request, items, status)})
    failed = begun | {"status": "failed", "error": {"code": "server_is_overloaded", "message": "Overloaded"}}
    return Frames(
        opening=b"".join(events[:opening]),
        middle=tuple(events[opening:]),
        ending=ending,
        error=_event("response.failed", {"response": failed}),
    )


def conversation(body: Json) -> list[tuple[str, str]]:
    """Role and text of every message that the model is sent, oldest first."""
    return [
        (item["role"], part["text"])
        for item in body.get("input", [])
        if item.get("type") == "message"
        for part in item["content"]
        if "text" in part
    ]


def tool_results(body: Json) -> list[str]:
    """What the tools gave back, oldest first."""
    found: list[str] = []
    for item in body.get("input", []):
        if str(item.get("type", "")).endswith("_call_output"):
            output: Any = item["output"]
            found.append(output if isinstance(output, str) else json.dumps(output))
    return found


def _event(kind: str, data: Json) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n".encode()


def _item_events(index: int, item: Json, deltas: int) -> list[bytes]:
    done = _event("response.output_item.done", {"output_index": index, "item": item})
    if item["type"] != "message":
        return [_event("response.output_item.added", {"output_index": index, "item": item}), done]
    where: Json = {"item_id": item["id"], "output_index": index, "content_index": 0}
    text: str = item["content"][0]["text"]
    part: Json = {"type": "output_text", "text": "", "annotations": []}
    return [
        _event("response.output_item.added", {"output_index": index, "item": item | {"content": []}}),
        _event("response.content_part.added", where | {"part": part}),
        *(_event("response.output_text.delta", where | {"delta": piece}) for piece in pieces(text, deltas)),
        _event("response.output_text.done", where | {"text": text}),
        done,
    ]


def _status(answer: Answer) -> str:
    return "incomplete" if answer.stop == "max_tokens" else "completed"


def _response(answer: Answer, request: Recorded, items: list[Json], status: str) -> Json:
    incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": f"resp_standin{next(_counter):04d}",
        "object": "response",
        "model": request.model,
        "status": status,
        "output": items,
        "error": None,
        "incomplete_details": incomplete,
        "usage": None if status == "in_progress" else _usage(answer.usage),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _items(answer: Answer, request: Recorded) -> list[Json]:
    text = answer.text if answer.structured is None else json.dumps(answer.structured)
    items: list[Json] = []
    if answer.thinking:
        summary: Json = {"type": "summary_text", "text": answer.thinking}
        items.append({"type": "reasoning", "id": _identity("rs"), "summary": [summary]})
    if text:
        kind = "refusal" if answer.stop == "refusal" else "output_text"
        content: Json = {"type": kind, "text": text, "annotations": []}
        items.append({"type": "message", "id": _identity("msg"), "role": "assistant", "content": [content]})
    in_code_mode = '"exec"' in json.dumps([request.body.get("tools"), request.body.get("input")])
    items += [_custom(call) if in_code_mode else _function(call) for call in answer.calls]
    return items


def _identity(kind: str) -> str:
    return f"{kind}_standin{next(_counter):04d}"


def _custom(call: Call) -> Json:
    """Code mode (the default model): one tool `exec` that takes JavaScript."""
    match call:
        case Shell(command):
            code = f"text(JSON.stringify(await tools.exec_command({json.dumps({'cmd': command})})))"
        case WriteFile(path, content):
            code = f"text(JSON.stringify(await tools.apply_patch({json.dumps(_patch(path, content))})))"
        case CallTool(name, arguments):
            code = f"text(JSON.stringify(await tools.{name}({json.dumps(arguments)})))"
    return {
        "type": "custom_tool_call",
        "id": _identity("ctc"),
        "call_id": _identity("call"),
        "name": "exec",
        "input": code,
        "status": "completed",
    }


def _function(call: Call) -> Json:
    """Direct tools (other models)."""
    identity = {"id": _identity("fc"), "call_id": _identity("call"), "status": "completed"}
    match call:
        case Shell(command):
            return _called(identity, "exec_command", {"cmd": command})
        case WriteFile(path, content):
            patch = _patch(path, content)
            return {"type": "custom_tool_call", "name": "apply_patch", "input": patch} | identity
        case CallTool(name, arguments):
            return _called(identity, name, arguments)


def _called(identity: Json, name: str, arguments: Json) -> Json:
    return {"type": "function_call", "name": name, "arguments": json.dumps(arguments)} | identity


def _patch(path: str, content: str) -> str:
    added = "".join(f"+{line}\n" for line in content.splitlines())
    return f"*** Begin Patch\n*** Add File: {path}\n{added}*** End Patch\n"
