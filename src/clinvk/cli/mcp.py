"""`clinvk mcp`: the MCP server."""

import argparse

from clinvk.cli.call import Call

NAME = "mcp"
HELP = "run the MCP server (this is what MCP clients start)"
_DESCRIPTION = """\
Run the MCP server: over standard input and output for the client that starts it, or over HTTP.

Standard output carries the protocol and nothing else; messages go to standard error. It serves until the client
leaves or a signal comes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags; what is not given is taken from the section mcp of the configuration."""
    parser.description = _DESCRIPTION
    parser.add_argument("--transport", choices=("stdio", "http"), help="how clients reach it (default: stdio)")
    parser.add_argument("--host", help="address to listen on (http; default: 127.0.0.1, others need API keys)")
    parser.add_argument("-p", "--port", type=int, help="port to listen on (http; default: 8081, 0 takes a free one)")
    parser.add_argument("--path", help="path of the endpoint (http; default: /mcp)")
    parser.add_argument(
        "--expose-health", action="store_true", default=None, help="serve /health beside it (http; default: no)"
    )


def run(call: Call) -> int:
    """Serve."""
    args = call.args
    loaded = call.loaded(
        {
            "mcp.transport": args.transport,
            "mcp.host": args.host,
            "mcp.port": args.port,
            "mcp.http_path": args.path,
            "mcp.expose_health": args.expose_health,
        }
    )
    from clinvk.mcp_server import run as server

    return server.main(loaded, call.environ)
