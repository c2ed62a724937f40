"""Who may start now: limits over all runs and per backend, a bounded queue, and one login at a time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from clinvk.errors import ClinvkError

LOGIN_SECS = 1.0  # how long a start may keep the next one of the same CLI waiting while it may refresh its login


class Start:
    """One start of a CLI: `begun` when its process exists, `settled` when it has said something."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.settled = anyio.Event()

    def end(self) -> None:
        """Let the next one go, whatever became of this one."""
        self.begun.set()
        self.settled.set()


class Admission:
    """Admits runs in the order in which they came."""

    def __init__(self, *, total: int, per_backend: int, queue: int) -> None:
        self._total = anyio.CapacityLimiter(total)
        self._per_backend = per_backend
        self._queue = queue
        self._backends: dict[str, anyio.CapacityLimiter] = {}
        self._last: dict[str, Start] = {}
        self.waiting = 0

    @property
    def running(self) -> int:
        """How many runs hold a place."""
        return self._total.statistics().borrowed_tokens

    @asynccontextmanager
    async def place(self, backend: str) -> AsyncGenerator[None]:
        """A place among the running; waits for one. Raises ClinvkError(overloaded) when the queue is full."""
        limiter = self._backends.setdefault(backend, anyio.CapacityLimiter(self._per_backend))
        run = object()  # a limiter counts borrowers; a run is one, whatever task it is in
        if not self._free(limiter, run):
            if self.waiting >= self._queue:
                raise ClinvkError(
                    "overloaded",
                    f"{self.waiting} runs are waiting already",
                    hint="try again later, or raise limits.queue_length",
                    backend=backend,
                )
            await self._queued(limiter, run)
        try:
            yield
        finally:
            self._total.release_on_behalf_of(run)
            limiter.release_on_behalf_of(run)

    def is_full(self, backend: str) -> bool:
        """Whether a run would have to wait now."""
        limiter = self._backends.get(backend)
        return self._total.available_tokens < 1 or (limiter is not None and limiter.available_tokens < 1)

    def _free(self, limiter: anyio.CapacityLimiter, run: object) -> bool:
        """Take a place that can be had without waiting; whether there was one."""
        try:
            limiter.acquire_on_behalf_of_nowait(run)
        except anyio.WouldBlock:
            return False
        try:
            self._total.acquire_on_behalf_of_nowait(run)
        except anyio.WouldBlock:
            limiter.release_on_behalf_of(run)
            return False
        return True

    async def _queued(self, limiter: anyio.CapacityLimiter, run: object) -> None:
        """Wait for a place."""
        self.waiting += 1
        try:
            await limiter.acquire_on_behalf_of(run)
            try:
                await self._total.acquire_on_behalf_of(run)
            except BaseException:
                limiter.release_on_behalf_of(run)
                raise
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def start(self, backend: str, *, refreshable: bool) -> AsyncGenerator[Start]:
        """Starts of one CLI one after another, each until its first output or for `LOGIN_SECS`.

        Only where the login is a token that processes starting together would race to refresh.
        """
        mine = Start()
        try:
            if refreshable:
                before, self._last[backend] = self._last.get(backend), mine
                if before is not None:
                    await before.begun.wait()
                    with anyio.move_on_after(LOGIN_SECS):
                        await before.settled.wait()
            yield mine
        finally:
            mine.end()
