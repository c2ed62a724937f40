"""Work for a client that may leave: when it does, the work is cancelled."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from starlette.requests import Request

from clinvk.errors import ClinvkError

T = TypeVar("T")


class Gone(Exception):  # noqa: N818 - nothing went wrong
    """The client left; there is nobody to answer."""


class Outcome(Generic[T]):
    """What came of work in another task: a task group would wrap its errors into groups."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self._value: T | None = None
        self._error: ClinvkError | None = None

    async def take(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work and keep its value or error."""
        try:
            self._value = await work()
        except ClinvkError as error:
            self._error = error
        self.done.set()

    def get(self) -> T:
        """The value. Raises the ClinvkError of the work; Gone when it was not finished."""
        if self._error is not None:
            raise self._error
        if not self.done.is_set():
            raise Gone
        return self._value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def left(request: Request) -> None:
    """Wait until the client is gone; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def attended(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """The value of the work. Raises Gone when the client left before, and what the work raises."""
    outcome = Outcome[T]()

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await left(request)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await outcome.take(work)
        tasks.cancel_scope.cancel()
    return outcome.get()
