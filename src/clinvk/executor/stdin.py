"""The open stdin of an interactive command: a named pipe in the run's folder, which the keeper hands to the command."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

from clinvk.files import writing


class Stdin:
    """Bytes for a running command, in order."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._turn = anyio.Lock()

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
def open_stdin(path: Path) -> Generator[Stdin]:
    """A named pipe at `path`, open for writing until the end of the scope or `close`."""
    with writing(path):
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # for reading too: otherwise opening would wait for the command, which is not started yet
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    stdin = Stdin(fd)
    try:
        yield stdin
    finally:
        stdin.close()
