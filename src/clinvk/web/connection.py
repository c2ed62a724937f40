"""uvicorn's protocols with bounds on the head of a request, which is read before anything can ask for a key.

uvicorn waits for ever for the rest of a head, and httptools takes heads of any size. What is no HTTP at all is answered
in the shape of every other error.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from clinvk.errors import Failure
from clinvk.web.headers import SECURITY_HEADERS

HEAD_SECS = 20.0  # for the whole head, from the connection or the first byte on: a client sends it at once
HEAD_BYTES = 64 * 1024  # nginx and Apache take 32 and 8 KiB; h11 has a bound of its own, 16 KiB


class _Patience:
    """Ends a connection whose request does not come."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on, unless the time runs already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECS, self._give_up)

    def end(self) -> None:
        """The head is there, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class FastProtocol(HttpToolsProtocol):
    """By httptools."""

    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = _Patience(self._give_up)
        self._patience.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._patience.end()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self._patience.begin()
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            _close(self.transport, 431, f"the head of the request is too large; at most {HEAD_BYTES:,} bytes are taken")

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._patience.end()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        _close(self.transport, 400, msg)

    def _give_up(self) -> None:
        _too_slow(self.transport, is_begun=self._head_bytes > 0)


class StrictProtocol(H11Protocol):
    """By h11."""

    _is_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = _Patience(self._give_up)
        self._patience.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._patience.end()

    def data_received(self, data: bytes) -> None:
        self._is_begun = True
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._patience.end()
        elif before is None or before.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self._patience.begin()

    def send_400_response(self, msg: str) -> None:
        _close(self.transport, 400, msg)

    def _give_up(self) -> None:
        _too_slow(self.transport, is_begun=self._is_begun)


def _too_slow(transport: asyncio.Transport, *, is_begun: bool) -> None:
    if is_begun and not transport.is_closing():
        _close(transport, 408, f"the head of the request did not arrive within {HEAD_SECS:g} s")
    else:
        transport.close()


def _close(transport: asyncio.Transport, status: int, message: str) -> None:
    """The last answer on a connection."""
    body = json.dumps({"error": asdict(Failure(code="invalid_request", message=message))}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **SECURITY_HEADERS,
    }
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    transport.write(f"{head}\r\n".encode("ascii") + body)
    transport.close()
