"""Bounds on what a client may send: how much, and how slowly."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinvk.errors import Failure
from clinvk.gateway import answers
from clinvk.gateway.drain import SHUTTING_DOWN, Drain

BODY_SECS = 60.0  # for the whole body: a client that sends a byte now and then must not hold a connection for ever


class Refused(Exception):  # noqa: N818 - it is an answer
    """The body is not to be read any further; raised where it is read."""

    def __init__(self, status: int, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = status
        self.failure = failure


class BodyLimit:
    """ASGI: answers 413 to a body over the limit, whatever its Content-Length says, and 408 to one that never ends.

    Once the server was told to stop it waits for no body any more.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, drain: Drain, body_secs: float = BODY_SECS) -> None:
        self._app = app
        self._most = most_bytes
        self._drain = drain
        self._body_secs = body_secs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._most:
            return await answers.refused(scope, 413, self._too_large())(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            return await self._app(scope, self._counted(receive), sending)
        except Refused as refused:
            if begun:
                raise
            return await answers.refused(scope, refused.status, refused.failure)(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        deadline = anyio.current_time() + self._body_secs
        seen = 0
        complete = False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:  # what follows is the client leaving, for which there is no deadline
                return await receive()
            message: Message | None = None
            with anyio.CancelScope(deadline=deadline) as waiting, self._drain.interrupting(waiting):
                message = await receive()
            if message is None:
                if self._drain.closing.is_set():
                    raise Refused(answers.STATUS[SHUTTING_DOWN.code], SHUTTING_DOWN)
                failure = Failure(code="timeout", message=f"the body did not arrive within {self._body_secs:g} s")
                raise Refused(408, failure)
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self._most:
                raise Refused(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> Failure:
        return Failure(
            code="invalid_request",
            message=f"the body is too large; at most {self._most:,} bytes are accepted",
            hint="server.max_request_body_bytes sets the limit",
            details={"max_bytes": self._most},
        )
