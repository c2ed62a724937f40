"""Stopping by signal: the first one asks politely, the second one does not."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from clinvk.errors import ClinvkError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_quietly_while_starting() -> None:
    """Until `cancelled_by_signal` takes over, a signal ends the process with 0: nothing runs yet."""
    for number in STOPPING:
        signal.signal(number, lambda _number, _frame: os._exit(0))


@asynccontextmanager
async def cancelled_by_signal() -> AsyncGenerator[anyio.CancelScope]:
    """SIGINT, SIGTERM and SIGHUP cancel the yielded scope, which the body enters; a second one ends the process."""
    scope = anyio.CancelScope()

    async def watch() -> None:
        with anyio.open_signal_receiver(*STOPPING) as received:
            async for number in received:
                if scope.cancel_called:
                    os._exit(128 + number)
                scope.cancel()

    refused: ClinvkError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            yield scope
        except ClinvkError as error:  # which the task group would wrap
            refused = error
        group.cancel_scope.cancel()
    if refused is not None:
        raise refused
