"""The Gemini API, as Gemini CLI calls it."""

import json
from typing import Any

from standin.script import Answer, Call, CallTool, Frames, Json, Recorded, Shell, Usage, WriteFile, pieces

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_FINISH = {"end": "STOP", "max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}


def error_body(status: int, message: str) -> Json:
    """The error in the API's shape."""
    return {"error": {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}}


def is_router_call(request: Recorded) -> bool:
    """Gemini CLI without `-m` first asks a small model how hard the question is."""
    return "complexity_score" in json.dumps(request.body.get("generationConfig", {}))


def router_answer() -> Answer:
    """The small model's verdict: an easy question."""
    verdict: Json = {"complexity_reasoning": "simple", "complexity_score": 10}
    return Answer(structured=verdict, usage=Usage(input=40, cached=0, output=5, reasoning=0))


def message(answer: Answer, request: Recorded) -> Json:
    """The whole answer, for requests that do not stream."""
    return _chunk(answer, request, _parts(answer, 1), last=True)


def frames(answer: Answer, request: Recorded) -> Frames:
    """The answer as server-sent events, one part in each."""
    parts = _parts(answer, answer.deltas)
    events = [_event(_chunk(answer, request, [part], last=False)) for part in parts]
    return Frames(
        opening=b"".join(events[:1]),
        middle=tuple(events[1:]),
        ending=_event(_chunk(answer, request, [], last=True)),
        error=_event(error_body(503, "The model is overloaded.")),
    )


def conversation(body: Json) -> list[tuple[str, str]]:
    """Role and text of every text part that the model is sent, oldest first."""
    return [
        (turn.get("role", "user"), part["text"])
        for turn in body.get("contents", [])
        for part in turn.get("parts", [])
        if "text" in part and not part.get("thought")
    ]


def tool_results(body: Json) -> list[str]:
    """What the tools gave back, oldest first."""
    return [
        str(part["functionResponse"]["response"])
        for turn in body.get("contents", [])
        for part in turn.get("parts", [])
        if "functionResponse" in part
    ]


def _event(data: Json) -> bytes:
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


def _parts(answer: Answer, count: int) -> list[Json]:
    text = answer.text if answer.structured is None else json.dumps(answer.structured)
    parts: list[Json] = [{"text": answer.thinking, "thought": True}] if answer.thinking else []
    parts += [{"text": piece} for piece in pieces(text, count)]
    return parts + [{"functionCall": _tool(call)} for call in answer.calls]


def _tool(call: Call) -> Json:
    match call:
        case Shell(command):
            return {"name": "run_shell_command", "args": {"command": command, "description": "Run a command"}}
        case WriteFile(path, content):
            return {"name": "write_file", "args": {"file_path": path, "content": content}}
        case CallTool(name, arguments):
            return {"name": name, "args": arguments}


def _chunk(answer: Answer, request: Recorded, parts: list[Json], *, last: bool) -> Json:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts or [{"text": ""}]}}
    chunk: Json = {"candidates": [candidate], "modelVersion": request.model, "responseId": "standin"}
    if last:
        candidate["finishReason"] = _FINISH[answer.stop]
        chunk["usageMetadata"] = _usage(answer.usage)
    return chunk


def _usage(usage: Usage) -> Json:
    return {
        "promptTokenCount": usage.input,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
    }
