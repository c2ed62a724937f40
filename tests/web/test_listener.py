"""How a server stops while clients hold connections open."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from clinvk.web import listener

PARSERS: list[listener.Parser] = ["httptools", "h11"]
PIECE, PIECES = b"a" * 65_536, 256  # more than sockets hold
DEADLINE = 20

pytestmark = pytest.mark.anyio


async def many_pieces(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An answer that has to be read."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(1, PIECES + 1):
        await send({"type": "http.response.body", "body": PIECE, "more_body": number < PIECES})


@asynccontextmanager
async def asked(parser: listener.Parser) -> AsyncGenerator[tuple[listener.Listener, socket.socket]]:
    """A server that is answering, and the client that has read the first bytes of it."""
    config = listener.configured(many_pieces, parser)
    config.lifespan = "off"
    config.timeout_graceful_shutdown = None  # nothing else ends it
    config.load()
    server = listener.Listener(config, lambda: None)
    server.lifespan = config.lifespan_class(config)
    with anyio.fail_after(DEADLINE), socket.socket() as listening, socket.socket() as client:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        await server.startup(sockets=[listening])
        client.connect(listening.getsockname())
        client.setblocking(False)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await anyio.wait_readable(client)
        yield server, client


@pytest.mark.parametrize("parser", PARSERS)
async def test_who_does_not_read_does_not_hold_up_the_stop(parser: listener.Parser) -> None:
    async with asked(parser) as (server, _):
        await server.shutdown()
        assert not server.server_state.connections


@pytest.mark.parametrize("parser", PARSERS)
async def test_who_reads_gets_the_whole_answer_while_the_server_stops(parser: listener.Parser) -> None:
    told = b""
    async with asked(parser) as (server, client), anyio.create_task_group() as tasks:
        tasks.start_soon(server.shutdown)
        while not told.endswith(b"\r\n0\r\n\r\n"):
            await anyio.wait_readable(client)
            told += client.recv(1 << 20)
    assert told.count(b"a") >= len(PIECE) * PIECES
