"""What strangers can do to a connection before any guard sees a request."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Never

import anyio
import pytest
import uvicorn
from anyio.abc import ByteStream
from starlette.responses import PlainTextResponse

from clinvk.web import connection, listener
from clinvk.web.headers import SECURITY_HEADERS

PARSERS: list[listener.Parser] = ["httptools", "h11"]
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
DEADLINE = 20

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(parser: listener.Parser) -> AsyncGenerator[ByteStream]:
    """A connection to a server that answers everything."""
    config = listener.configured(PlainTextResponse("hello"), parser)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    with anyio.fail_after(DEADLINE):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as multi:
            raw = multi.listeners[0].extra(anyio.abc.SocketAttribute.raw_socket)
            port = raw.getsockname()[1]
            await server.startup(sockets=[raw])
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                yield stream
            await server.shutdown()


async def rest(stream: ByteStream) -> bytes:
    """All that comes until the server hangs up."""
    told = b""
    try:
        while True:
            told += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return told


async def without_end(stream: ByteStream, more: bytes) -> Never:
    """Send it again and again."""
    while True:
        await stream.send(more)


async def greeted(stream: ByteStream) -> None:
    """Wait for the answer of the application."""
    told = b""
    while not told.endswith(b"hello"):
        told += await stream.receive()


def answer(told: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of an answer."""
    head, _, body = told.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return int(status.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("begun", [HEAD, HEAD + b"X-Slow: 1", b"G"])
async def test_a_head_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, parser: listener.Parser, begun: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECS", 0.1)
    async with connected(parser) as stream:
        await stream.send(begun)
        status, headers, body = answer(await rest(stream))
    assert status == 408
    assert "did not arrive" in body["error"]["message"]
    assert headers.items() >= SECURITY_HEADERS.items()


@pytest.mark.parametrize("parser", PARSERS)
async def test_a_connection_on_which_nothing_comes_is_closed(
    monkeypatch: pytest.MonkeyPatch, parser: listener.Parser
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECS", 0.1)
    async with connected(parser) as stream:
        assert await rest(stream) == b""


@pytest.mark.parametrize("parser", PARSERS)
async def test_a_second_head_that_never_ends_is_given_up_too(
    monkeypatch: pytest.MonkeyPatch, parser: listener.Parser
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECS", 0.1)
    async with connected(parser) as stream:
        await stream.send(HEAD + b"\r\n")
        await greeted(stream)
        await stream.send(HEAD)
        assert b"did not arrive" in await rest(stream)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("body", [b"later", b"late"], ids=["whole", "cut off"])
async def test_a_body_that_comes_after_its_answer_gets_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch, parser: listener.Parser, body: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECS", 0.1)
    async with connected(parser) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        await greeted(stream)
        await stream.send(body)
        assert await rest(stream) == b""


@pytest.mark.parametrize("more", [b"X: " + b"a" * 4_000_000, b"X: y\r\n" * 500_000], ids=["one header", "many"])
async def test_a_head_without_end_is_refused_by_its_size(more: bytes) -> None:
    async with connected("httptools") as stream:
        await stream.send(HEAD)
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await without_end(stream, more)


async def test_a_head_over_the_limit_is_told_so() -> None:
    async with connected("httptools") as stream:
        await stream.send(HEAD + b"X: " + b"a" * connection.HEAD_BYTES)
        status, _, body = answer(await rest(stream))
    assert (status, body["error"]["code"]) == (431, "invalid_request")


async def test_the_bound_is_for_each_head_and_not_for_bodies() -> None:
    async with connected("httptools") as stream:
        for _ in range(3):
            await stream.send(HEAD + b"X: " + b"a" * (connection.HEAD_BYTES // 2) + b"\r\n\r\n")
            await greeted(stream)
        await stream.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + b"a" * 200_000)
        await greeted(stream)
        await stream.send(HEAD + b"\r\n")
        await greeted(stream)


@pytest.mark.parametrize("parser", PARSERS)
async def test_what_is_no_http_is_answered_like_every_other_mistake(parser: listener.Parser) -> None:
    async with connected(parser) as stream:
        await stream.send(b"this is no HTTP\r\n\r\n")
        status, headers, body = answer(await rest(stream))
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert headers.items() >= SECURITY_HEADERS.items()


@pytest.mark.parametrize("parser", PARSERS)
def test_an_idle_connection_is_kept_longer_than_clients_keep_theirs(parser: listener.Parser) -> None:
    assert listener.configured(PlainTextResponse("hello"), parser).timeout_keep_alive > 60
