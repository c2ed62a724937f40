"""A call answered with a stream: the events of its run as they come, its result at the end.

What is refused, or fails before there is anything to show, is answered like any other call, with an honest status.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import anyio.lowlevel
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.errors import ClinvkError, Failure
from clinvk.executor.live import Listener
from clinvk.gateway import answers
from clinvk.gateway.feed import Feed, Heartbeat, Said, feeding
from clinvk.gateway.service import trail_of

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Rendering(Protocol[T_contra]):
    """What a stream looks like; one instance per stream."""

    media_type: str

    def is_worth_starting(self, items: Sequence[Said]) -> bool:
        """Whether there is something to show, so that the status can no longer change."""
        ...

    def headers(self, run_id: str) -> dict[str, str]:
        """Headers beside those of every stream; `run_id` is empty when nothing was said yet."""
        ...

    def begin(self) -> bytes:
        """What comes first."""
        ...

    def said(self, item: Said) -> bytes:
        """An event; nothing when it is not shown."""
        ...

    def heartbeat(self) -> bytes:
        """A sign of life."""
        ...

    def end(self, result: T_contra) -> bytes:
        """The end of a call."""
        ...

    def failure(self, failure: Failure) -> bytes:
        """The end of a call that could not be done."""
        ...

    def unstarted(self, scope: Scope, result: T_contra) -> ASGIApp | None:
        """The answer to a call that ended before the stream began, where it is not to be a stream."""
        ...


class Streamed(Generic[T]):
    """ASGI response; `work` is cancelled when the client leaves. `ended` is told the result."""

    def __init__(
        self,
        request: Request,
        work: Callable[[Listener], Awaitable[T]],
        rendering: Rendering[T],
        ended: Callable[[T], None],
    ) -> None:
        self._request = request
        self._work = work
        self._rendering = rendering
        self._ended = ended
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trail_of(scope).outcome = "left"  # until it ends otherwise
        answer: ASGIApp | None = None
        async with feeding(self._request, self._work) as feed:
            try:
                answer = await self._flow(feed, scope, send)
            except ClinvkError as error:
                answer = await self._failed(error.failure, scope, send)
        if answer is not None:
            await answer(scope, receive, send)

    async def _flow(self, feed: Feed[T], scope: Scope, send: Send) -> ASGIApp | None:
        """Send what comes; the answer to give instead of a stream, if any."""
        held: list[Said] = []
        while (news := await feed.next()) is not None:
            held += news if isinstance(news, list) else []
            if self._begun or isinstance(news, Heartbeat) or self._rendering.is_worth_starting(held):
                await self._begin(send, held)
                alive = self._rendering.heartbeat() if isinstance(news, Heartbeat) else b""
                await _put(send, self._said(held) + alive)
                held.clear()
        result = feed.outcome.get()
        self._ended(result)
        if not self._begun:
            answer = self._rendering.unstarted(scope, result)
            if answer is not None:
                return answer
        await self._begin(send, held)
        await _put(send, self._said(held) + self._rendering.end(result), more=False)
        return None

    def _said(self, held: Sequence[Said]) -> bytes:
        return b"".join(self._rendering.said(item) for item in held)

    async def _failed(self, failure: Failure, scope: Scope, send: Send) -> ASGIApp | None:
        trail_of(scope).failed(failure)
        if not self._begun:
            return answers.of_failure(scope, failure)
        await _put(send, self._rendering.failure(answers.in_words_of_http(failure)), more=False)
        return None

    async def _begin(self, send: Send, said: Sequence[Said]) -> None:
        if self._begun:
            return
        self._begun = True
        headers = MutableHeaders(raw=[])
        headers.update(
            {
                "content-type": self._rendering.media_type,
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would hold the stream back
                **self._rendering.headers(said[0].run_id if said else ""),
            }
        )
        await send({"type": "http.response.start", "status": 200, "headers": headers.raw})
        await _put(send, self._rendering.begin())


async def _put(send: Send, piece: bytes, *, more: bool = True) -> None:
    if piece or not more:
        await send({"type": "http.response.body", "body": piece, "more_body": more})
    # uvicorn's send rarely waits; without this a long backlog would be sent before anybody else is served
    await anyio.lowlevel.checkpoint()
