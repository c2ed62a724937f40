"""`clinvk serve`: the HTTP gateway."""

import argparse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from clinvk.cli.call import Call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from clinvk.tools.app import App
    from clinvk.web.mounting import Mounted

NAME = "serve"
HELP = "run the HTTP gateway: REST, OpenAI- and Anthropic-compatible, MCP at /mcp"
_DESCRIPTION = """\
Run the HTTP gateway: the REST API (/docs describes it), chat APIs that the SDKs of OpenAI and Anthropic take, and MCP
at /mcp. It listens on this machine alone; another address needs API keys (clinvk keys create NAME). It serves until a
signal comes; runs whose id was handed out go on then.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags; what is not given is taken from the section server of the configuration."""
    parser.description = _DESCRIPTION
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, others need API keys)")
    parser.add_argument("-p", "--port", type=int, help="port to listen on (default: 8080, 0 takes a free one)")


def run(call: Call) -> int:
    """Serve."""
    loaded = call.loaded({"server.host": call.args.host, "server.port": call.args.port})
    from clinvk.gateway import run as gateway

    return gateway.main(loaded, call.environ, mounting=_mcp)


@asynccontextmanager
async def _mcp(app: "App") -> "AsyncGenerator[Mounted]":
    """The MCP endpoint; the SDK is imported when the gateway has taken over the signals."""
    from clinvk.mcp_server.mounted import mounted

    async with mounted(app) as mount:
        yield mount
