"""The events of one call while it runs, and its result at the end, for whoever streams them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from starlette.requests import Request

from clinvk.errors import ClinvkError
from clinvk.events import Event, Reasoning, TextDelta
from clinvk.executor.live import Listener
from clinvk.gateway.attended import Outcome, left

HEARTBEAT_SECS = 15.0  # proxies and clients give up on a connection after 30 to 60 s of silence
HELD_CHARS = 16 << 20  # of text that a client has not read yet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Said:
    """An event of the call's run or of a child of it."""

    run_id: str
    backend: str
    event: Event


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while; the run goes on."""


class Feed(Generic[T]):
    """Items in the order in which they came. A client that reads too slowly is cut off; all of it is on disk."""

    def __init__(self) -> None:
        self._items: list[Said] = []
        self._held = 0
        self._lost = False
        self._news = anyio.Event()
        self.outcome = Outcome[T]()

    def hear(self, run_id: str, backend: str, event: Event) -> None:
        """The listener of the call."""
        if isinstance(event, TextDelta | Reasoning):
            self._held += len(event.text)
        self._lost = self._lost or self._held > HELD_CHARS
        if not self._lost:
            self._items.append(Said(run_id, backend, event))
        self._news.set()

    async def follow(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work; its end is news as well."""
        await self.outcome.take(work)
        self._news.set()

    async def next(self) -> list[Said] | Heartbeat | None:
        """What came since the last time; a heartbeat when nothing did; None when the work is done and all was said.

        Raises ClinvkError(overloaded) when more came than is held for a slow reader.
        """
        if self._lost:
            raise ClinvkError(
                "overloaded", "the stream was read too slowly", hint="the run's events can be read from the start again"
            )
        with anyio.move_on_after(HEARTBEAT_SECS):
            while not self._items and not self.outcome.done.is_set():
                await self._news.wait()
                if not self._items and not self.outcome.done.is_set():
                    self._news = anyio.Event()
        if self._items:
            items, self._items, self._held = self._items, [], 0
            if not self.outcome.done.is_set():
                self._news = anyio.Event()
            return items
        return None if self.outcome.done.is_set() else Heartbeat()


@asynccontextmanager
async def feeding(request: Request, work: Callable[[Listener], Awaitable[T]]) -> AsyncGenerator[Feed[T]]:
    """The feed of a call for as long as its client stays; when it leaves, the call and the body are cancelled."""
    feed = Feed[T]()
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await left(request)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        tasks.start_soon(feed.follow, lambda: work(feed.hear))
        yield feed
        tasks.cancel_scope.cancel()
