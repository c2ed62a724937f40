"""uvicorn's protocols with bounds on the head of a request, which is read before anything can ask for a key.

uvicorn waits for ever for the rest of a head, and httptools takes heads of any size. What is no HTTP at all is answered
in the shape of every other error. No application hears of that, so that whoever wants to know is told here.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from clinvk.errors import Failure
from clinvk.web.headers import SECURITY_HEADERS

HEAD_SECS = 20.0  # for the whole head, from the connection or the first byte on: a client sends it at once
HEAD_BYTES = 64 * 1024  # nginx and Apache take 32 and 8 KiB; h11 has a bound of its own, 16 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A connection that was closed because no request came of it."""

    status: int
    failure: Failure
    client: tuple[str, int] | None
    seconds: float


OnRefusal = Callable[[Refusal], Mapping[str, str]]  # gives further headers of the answer


def unheard(_refusal: Refusal) -> Mapping[str, str]:
    """Nobody wants to know."""
    return {}


class _Patience:
    """Ends a connection whose request does not come."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0

    def begin(self) -> None:
        """From now on, unless the time runs already."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._began = loop.time()
            self._timer = loop.call_later(HEAD_SECS, self._give_up)

    def end(self) -> None:
        """The head is there, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def spent(self) -> float:
        """Seconds since it began."""
        return asyncio.get_running_loop().time() - self._began


class _Guarded(asyncio.Protocol, ABC):
    """What is done alike before either of uvicorn's protocols."""

    transport: asyncio.Transport
    client: tuple[str, int] | None
    cycle: Any  # the request that is being answered, each protocol has a class of its own; None before the first

    def __init__(self, *args: Any, on_refusal: OnRefusal = unheard, **more: Any) -> None:
        super().__init__(*args, **more)
        self._on_refusal = on_refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._patience = _Patience(self._give_up)
        self._patience.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._patience.end()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._patience.end()
        elif before is None or before.response_complete:
            self._patience.begin()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; called by uvicorn."""
        self.refuse(400, msg)

    def refuse(self, status: int, message: str) -> None:
        """The last answer on a connection."""
        failure = Failure(code="invalid_request", message=message)
        refusal = Refusal(status=status, failure=failure, client=self.client, seconds=self._patience.spent())
        body = json.dumps({"error": asdict(failure)}).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **SECURITY_HEADERS,
            **self._on_refusal(refusal),
        }
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"{head}\r\n".encode("ascii") + body)
        self.transport.close()

    @abstractmethod
    def is_in_head(self) -> bool:
        """Whether the beginning of a head has come, and nothing but that."""

    def _give_up(self) -> None:
        # A body that comes only after its answer, as refusals need no body, began this as well: it has its answer.
        if self.is_in_head() and not self.transport.is_closing():
            self.refuse(408, f"the head of the request did not arrive within {HEAD_SECS:g} s")
        else:
            self.transport.close()


class FastProtocol(_Guarded, HttpToolsProtocol):
    """By httptools."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.refuse(431, f"the head of the request is too large; at most {HEAD_BYTES:,} bytes are taken")

    def is_in_head(self) -> bool:
        return self._in_head and self._head_bytes > 0

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()


class StrictProtocol(_Guarded, H11Protocol):
    """By h11."""

    def is_in_head(self) -> bool:
        return bool(self.conn.trailing_data[0])
