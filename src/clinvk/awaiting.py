"""Waiting for something in a command that Ctrl-C ends."""

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Args = TypeVarTuple("Args")


def awaited(function: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
    """`anyio.run`, which a signal ends at once: KeyboardInterrupt is raised for SIGINT.

    A signal that comes just before the event loop begins to wait is not noticed before the next event, which may be
    minutes away. With a receiver for any signal, whichever, every signal is an event.
    """
    return anyio.run(_wakeful, function, args)


async def _wakeful(function: Callable[[*Args], Awaitable[T]], args: tuple[*Args]) -> T:
    with anyio.open_signal_receiver(signal.SIGWINCH):
        return await function(*args)
