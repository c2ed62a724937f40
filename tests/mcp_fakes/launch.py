"""Starts the product's MCP server as `clinvk mcp` does; words are flags as `mcp.port=0`."""

import os
import sys

from clinvk.backends import registry
from clinvk.config.cascade import load, readings
from clinvk.errors import ClinvkError
from clinvk.mcp_server import run

if __name__ == "__main__":
    flags = {key: readings(value)[1] for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    try:
        sys.exit(run.main(load(os.environ, known_backends=registry.BACKENDS, flags=flags), os.environ))
    except ClinvkError as error:
        sys.stderr.write(f"{error.failure.code}: {error}\n")
        sys.exit(3)
