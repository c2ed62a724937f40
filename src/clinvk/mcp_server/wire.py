"""The two ends of the stdio wire: lines in, lines out, on descriptors of their own.

While it is open, descriptor 0 is /dev/null and 1 is standard error, so that nothing that is printed, here or by
a child, can reach the client. Reading and writing never block the event loop and need no thread.
"""

import os
import re
import stat
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

MAX_LINE_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_SEARCHED_BYTES = 4096
_ID = re.compile(rb'"id"\s*:\s*(-?\d+|"[^"\\]*")')


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line over the limit, which was dropped; `request_id` is its JSON-RPC id as JSON text, if it was found."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Wire:
    """Descriptors of the client's messages and of ours, both non-blocking."""

    reading: int
    writing: int

    async def lines(self, limit: int = MAX_LINE_BYTES) -> AsyncIterator[bytes | Overlong]:
        """Every line that is not blank, until the client closes its end."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self._read():
            *ended, rest = chunk.split(b"\n")
            for end in ended:
                parts.append(end)
                if size + len(end) > limit:
                    yield Overlong(request_id(parts))
                elif line := b"".join(parts).strip():
                    yield line
                parts, size = [], 0
            if rest:
                size += len(rest)
                parts.append(rest)
            if size > limit and len(parts) > 2:
                parts = [parts[0], parts[-1]]
        if size <= limit and (line := b"".join(parts).strip()):
            yield line

    async def _read(self) -> bytes:
        while True:
            try:
                return os.read(self.reading, _CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self.reading)
            except OSError:  # EIO: the terminal is gone
                return b""

    async def write(self, line: bytes) -> None:
        """Write one line. Raises OSError when the client is gone."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self.writing, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self.writing)


def request_id(parts: list[bytes]) -> str:
    """The id, as JSON text, of a message of which the beginning and the end are known: beside `params`, not inside."""
    head = parts[0][:_SEARCHED_BYTES].split(b'"params"')[0]
    tail = parts[-1][-_SEARCHED_BYTES:].rsplit(b"}", 2)[-2:]
    found = _ID.search(head) or _ID.search(b"}".join(tail))
    return found.group(1).decode("utf-8", "replace") if found else "null"


def pollable() -> bool:
    """Whether standard input and output are pipes, sockets or terminals; files cannot be waited for."""
    return all(_pollable(os.fstat(descriptor).st_mode, descriptor) for descriptor in (0, 1))


def _pollable(mode: int, descriptor: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(descriptor))


@contextmanager
def opened() -> Generator[Wire]:
    """Take the wire from descriptors 0 and 1; give it back at the end, blocking as it was."""
    blocking = os.get_blocking(0), os.get_blocking(1)
    wire = Wire(os.dup(0), os.dup(1))  # not inherited by children
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    os.set_blocking(wire.reading, False)
    os.set_blocking(wire.writing, False)
    try:
        yield wire
    finally:
        os.set_blocking(wire.reading, blocking[0])
        os.set_blocking(wire.writing, blocking[1])
        os.dup2(wire.reading, 0)
        os.dup2(wire.writing, 1)
        os.close(wire.reading)
        os.close(wire.writing)
