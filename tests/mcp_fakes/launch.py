"""Starts the product's MCP server as `clinvk mcp` does: `python launch.py [stdio|http] [PORT] [--health]`."""

import os
import sys

from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.mcp_server import run

if __name__ == "__main__":
    words = sys.argv[1:]
    loaded = load(os.environ, known_backends=registry.BACKENDS)
    sys.exit(
        run.main(
            loaded,
            os.environ,
            transport="http" if "http" in words else "stdio",
            port=int(words[1]) if len(words) > 1 else None,
            expose_health="--health" in words or None,
        )
    )
