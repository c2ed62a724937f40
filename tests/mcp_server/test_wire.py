import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.mcp_server.wire import Overlong, Wire

LIMIT = 64


@asynccontextmanager
async def piped() -> AsyncGenerator[tuple[int, Wire]]:
    """A wire whose reading end is fed through the descriptor; what is written to it goes nowhere."""
    reading, feeding = os.pipe()
    os.set_blocking(reading, False)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        with anyio.fail_after(5):
            yield feeding, Wire(reading, null)
    finally:
        for descriptor in (reading, null):
            os.close(descriptor)


async def lines_of(*chunks: bytes) -> list[bytes | Overlong]:
    """The lines that come out of chunks, each of which is read on its own."""
    found: list[bytes | Overlong] = []
    async with piped() as (feeding, wire), anyio.create_task_group() as group:

        async def feed() -> None:
            for chunk in chunks:
                os.write(feeding, chunk)
                await _read_up()
            os.close(feeding)

        group.start_soon(feed)
        async for line in wire.lines(LIMIT):
            found.append(line)  # noqa: PERF401 - the list outlives the task group
    return found


async def _read_up() -> None:
    """Let the reader take what is there."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([], []),
        ([b'{"id":1}\n'], [b'{"id":1}']),
        ([b'{"id":1}\r\n', b"\n", b"  \n"], [b'{"id":1}']),
        ([b'{"i', b'd":1}', b'\n{"id":2}\n{"id"', b":3}\n"], [b'{"id":1}', b'{"id":2}', b'{"id":3}']),
        ([b'{"id":1}\n{"id":2}'], [b'{"id":1}', b'{"id":2}']),
        ([b'{"id":7,"params":"' + b"x" * 80 + b'"}\n', b"{}\n"], [Overlong("7"), b"{}"]),
        ([b'{"id":"a b","params":"', b"x" * 50, b"x" * 50, b'"}\n{}\n'], [Overlong('"a b"'), b"{}"]),
        ([b'{"params":{"id":5,"x":"', b"x" * 80, b'"},"id":9}\n'], [Overlong("9")]),
        ([b'{"params":{"id":5,"x":"' + b"x" * 80 + b'"}}\n'], [Overlong("null")]),
        ([b"x" * 100], []),
    ],
)
async def test_lines_come_whole_and_long_ones_by_their_id(
    chunks: Sequence[bytes], lines: Sequence[bytes | Overlong]
) -> None:
    assert await lines_of(*chunks) == list(lines)


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.integers(1, 20))
def test_lines_do_not_depend_on_how_they_are_cut_into_chunks(lines: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    expected = [line.strip() for line in lines if line.strip()]
    assert anyio.run(lines_of, *chunks) == expected


@pytest.mark.anyio
async def test_a_line_longer_than_the_pipe_is_written_whole_to_a_slow_reader() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = bytes(range(256)) * 4096 + b"\n"
    got = b""
    try:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(Wire(reading, writing).write, line)
                while len(got) < len(line):
                    await anyio.wait_readable(reading)
                    got += os.read(reading, 50_000)
    finally:
        os.close(reading)
        os.close(writing)
    assert got == line
