"""Standard output as a place that may be slow or gone, without ever holding up the runs or a Ctrl-C."""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel

from clinvk.cli.console import UnwritableError

STDOUT = 1
PIECE_BYTES = 4096  # PIPE_BUF: what a pipe that is ready takes without waiting
NEVER_FULL = (PermissionError, ValueError)  # what epoll says of regular files and /dev/null


class Outlet:
    """Takes text at once and writes it as fast as the reader takes it.

    `broken` is why nothing can be written any more, as the reader has left, say: what comes after that goes nowhere.
    `on_broken` is told once.
    """

    def __init__(self, on_broken: Callable[[], None] = lambda: None) -> None:
        self._pieces: list[str] = []
        self._busy = False
        self._news = anyio.Event()
        self.on_broken = on_broken
        self.broken: BrokenPipeError | UnwritableError | None = None
        self.at_line_start = True

    @property
    def idle(self) -> bool:
        """Whether everything has been written."""
        return not self._pieces and not self._busy

    def put(self, text: str) -> None:
        """Write this when there is time."""
        if text and not self.broken:
            self.at_line_start = text.endswith("\n")
            self._pieces.append(text)
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def flow(self) -> None:
        """Write what is put, until cancelled."""
        sys.stdout.flush()
        while True:
            while self._pieces:
                text, self._pieces, self._busy = "".join(self._pieces), [], True
                await self._write(text)
                self._busy = False
            self._tell()
            await self._news.wait()

    async def emptied(self) -> None:
        """Wait until everything has been written."""
        while not self.idle:
            await self._news.wait()

    async def write_all(self, pieces: Iterable[str]) -> None:
        """Write these now, one after another, and end the last line."""
        for piece in pieces:
            await self._write(piece)
            self.at_line_start = piece.endswith("\n") if piece else self.at_line_start
        if not self.at_line_start:
            await self._write("\n")
            self.at_line_start = True

    async def _write(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "replace"))
        while data and not self.broken:
            await _ready()
            try:
                data = data[os.write(STDOUT, data[:PIECE_BYTES]) :]
            except BlockingIOError:
                await anyio.lowlevel.checkpoint()
            except OSError as error:
                self.broken = error if isinstance(error, BrokenPipeError) else UnwritableError(error.strerror)
                self._pieces.clear()
                self.on_broken()


async def _ready() -> None:
    """Wait until somebody takes what is written."""
    if not select.select([], [STDOUT], [], 0)[1]:
        with contextlib.suppress(*NEVER_FULL):
            await anyio.wait_writable(STDOUT)
