"""The open stdin of an interactive command: a named pipe in the run's folder, which the keeper hands to the command.

What the command is to read first is in the pipe before there is a command, as far as a pipe holds it: this process may
be gone before the command reads. The pipe keeps it as long as somebody has the reading end open.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio

from clinvk.files import writing

PIPE_BUFFER = 1 << 16  # what it holds anyway
PIPE_BYTES = 1 << 20  # what a pipe may hold at most where nobody changed that (Linux)
F_SETPIPE_SZ = 1031  # fcntl(2)


class Stdin:
    """Bytes for a running command, in order; `reader` is the reading end, to be kept open by who runs the command."""

    def __init__(self, fd: int, reader: int, first: bytes) -> None:
        self.reader = reader
        self._fd: int | None = fd
        self._turn = anyio.Lock()
        self._rest = memoryview(first)
        self._fill()

    def _fill(self) -> None:
        assert self._fd is not None
        if len(self._rest) > PIPE_BUFFER:
            with suppress(OSError):  # refused: then it holds less
                fcntl.fcntl(self._fd, F_SETPIPE_SZ, min(len(self._rest), PIPE_BYTES))
        with suppress(BlockingIOError):
            while self._rest:
                self._rest = self._rest[os.write(self._fd, self._rest) :]

    async def write_rest(self) -> None:
        """Write what the pipe did not hold of the first bytes."""
        await self.write(bytes(self._rest))

    async def write(self, data: bytes) -> None:
        """Write all of `data`, as fast as the command reads; nothing when its stdin was closed."""
        view = memoryview(data)
        async with self._turn:
            while view and self._fd is not None:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    with suppress(anyio.ClosedResourceError):
                        await anyio.wait_writable(self._fd)
                except BrokenPipeError:
                    return

    def close(self) -> None:
        """Let the command see the end of its input."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            anyio.notify_closing(fd)
            os.close(fd)


@contextmanager
def open_stdin(path: Path, first: bytes) -> Generator[Stdin]:
    """A named pipe at `path` that holds `first`, open for writing until the end of the scope or `close`."""
    with writing(path), ExitStack() as stack:
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # for reading too: otherwise opening would wait for the command, which is not started yet
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.pop_all()
    stdin = Stdin(fd, reader, first)
    try:
        yield stdin
    finally:
        stdin.close()
        os.close(reader)
