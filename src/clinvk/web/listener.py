"""Listening: the socket, and a server that a signal stops cleanly with exit code 0."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Literal, cast

import anyio
import uvicorn
from starlette.types import ASGIApp

from clinvk.config.cascade import Loaded
from clinvk.config.problems import ConfigError, Problem
from clinvk.web.connection import FastProtocol, OnRefusal, StrictProtocol, unheard

BACKLOG = 2048  # uvicorn's own
# Longer than clients keep an idle connection (httpx 5 s, Node 4 s): with uvicorn's 5 s a request can meet the closing.
KEEP_ALIVE_SECS = 75
SHUTDOWN_SECS = 10  # handlers were told already; what is left is stopping processes and sending the last answers

UNREAD_SECS = 1.5  # without a byte taken, after streams were told: who does not read would hold the process up
LOOK_SECS = 0.1

Section = Literal["mcp", "server"]


class Listener(uvicorn.Server):
    """uvicorn, but a signal calls `on_exit`, and the process exits with 0 afterwards."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; on the second signal at once."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        asyncio.get_running_loop().call_soon_threadsafe(self._on_exit)  # a signal handler may not call anyio

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let who reads get the rest; hang up on who does not."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hang_up_on_the_deaf)
            await super().shutdown(sockets)
            tasks.cancel_scope.cancel()

    async def _hang_up_on_the_deaf(self) -> None:
        waiting: dict[asyncio.Transport, tuple[int, float]] = {}  # bytes that wait to be read, and since when
        while True:
            now = anyio.current_time()
            for transport in [connection.transport for connection in self.server_state.connections]:
                size = transport.get_write_buffer_size()
                before, since = waiting.get(transport, (0, now))
                waiting[transport] = size, now if size < before or not size else since
                if size and now - since > UNREAD_SECS:
                    transport.abort()
            await anyio.sleep(LOOK_SECS)


Parser = Literal["h11", "httptools"]


def configured(app: ASGIApp, http: Parser, on_refusal: OnRefusal = unheard) -> uvicorn.Config:
    """How uvicorn is to serve. `on_refusal` is told of connections that were closed before `app` heard of a request.

    `httptools` is twice as fast, and leaves white space at the end of header values, which MCP wants gone (RFC 9110,
    5.5): the application must strip it.
    """
    protocol = partial(FastProtocol if http == "httptools" else StrictProtocol, on_refusal=on_refusal)
    return uvicorn.Config(
        app,
        lifespan="on",
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECS,
        timeout_graceful_shutdown=SHUTDOWN_SECS,
    )


async def serve(config: uvicorn.Config, listening: socket.socket, url: str, on_exit: Callable[[], None]) -> None:
    """Serve until a signal comes. Says on standard error where, because port 0 takes a free one."""
    listener = Listener(config, on_exit)
    signal.signal(signal.SIGHUP, listener.handle_exit)
    listening.listen(BACKLOG)  # who reads the line may connect at once
    sys.stderr.write(f"clinvk: listening on {url}\n")
    sys.stderr.flush()
    await listener.serve(sockets=[listening])


def problem(loaded: Loaded, key: str, message: str) -> ConfigError:
    """The error for a value that is valid but cannot be used here."""
    return ConfigError([Problem(message=message, source=loaded.sources[key], key=key)])


def bound(loaded: Loaded, section: Section) -> socket.socket:
    """The socket to listen on. Raises ConfigError when the configured address cannot be had."""
    settings = loaded.config.mcp if section == "mcp" else loaded.config.server
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        key = f"{section}.port" if in_use or error.errno == errno.EACCES else f"{section}.host"
        what = "is in use; choose another port, or 0 for a free one" if in_use else f"cannot be had: {error.strerror}"
        raise problem(loaded, key, f"{settings.host} port {settings.port} {what}") from error
    return listening


def url_of(host: str, listening: socket.socket, path: str) -> str:
    """Where a client reaches `path`."""
    port = listening.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
