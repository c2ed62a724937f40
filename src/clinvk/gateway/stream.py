"""How events and results look as NDJSON and as server-sent events."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from pydantic import BaseModel

from clinvk.errors import Failure
from clinvk.events import to_json
from clinvk.gateway.feed import Said

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Framing(Protocol):
    """How the parts of a stream are written."""

    media_type: str

    def said(self, said: Said) -> bytes:
        """An event."""
        ...

    def heartbeat(self) -> bytes:
        """A sign of life."""
        ...

    def result(self, result: BaseModel) -> bytes:
        """The end of a call."""
        ...

    def failure(self, failure: Failure) -> bytes:
        """The end of a call that could not be done."""
        ...


class Ndjson:
    """One JSON object per line; `type` tells events, `heartbeat`, `result` and `error` apart."""

    media_type = NDJSON

    def said(self, said: Said) -> bytes:
        return _line(shown(said))

    def heartbeat(self) -> bytes:
        return _line({"type": "heartbeat"})

    def result(self, result: BaseModel) -> bytes:
        return _line({"type": "result", **result.model_dump(mode="json")})

    def failure(self, failure: Failure) -> bytes:
        return _line({"type": "error", "error": asdict(failure)})


class Sse:
    """Server-sent events named after the type of their data."""

    media_type = SSE

    def said(self, said: Said) -> bytes:
        return sse(shown(said), event=said.event.type)

    def heartbeat(self) -> bytes:
        return b": alive\n\n"

    def result(self, result: BaseModel) -> bytes:
        return sse({"type": "result", **result.model_dump(mode="json")}, event="result")

    def failure(self, failure: Failure) -> bytes:
        return sse({"type": "error", "error": asdict(failure)}, event="error")


def shown(said: Said) -> dict[str, Any]:
    """An event as every stream shows it: unchanged, with the run that it belongs to."""
    return {**to_json(said.event), "run_id": said.run_id, "backend": said.backend}


def sse(data: Mapping[str, Any], *, event: str | None = None, number: str | None = None) -> bytes:
    """One server-sent event; JSON has no line breaks, so that `data` is one line."""
    head = f"id: {number}\n" if number is not None else ""
    head += f"event: {event}\n" if event is not None else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


def _line(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False) + "\n").encode("utf-8", "replace")
