"""Starts the gateway as `clinvk serve` does; arguments are `key=value` of the configuration, and `mcp` for /mcp."""

import os
import sys

from clinvk.backends import registry
from clinvk.config.cascade import load, readings
from clinvk.errors import ClinvkError
from clinvk.gateway import run
from clinvk.mcp_server.mounted import mounted

if __name__ == "__main__":
    words = sys.argv[1:]
    flags = {key: readings(value)[1] for key, _, value in (word.partition("=") for word in words if "=" in word)}
    try:
        loaded = load(os.environ, known_backends=registry.BACKENDS, flags={"server.port": 0, **flags})
        run.main(loaded, os.environ, mounting=mounted if "mcp" in words else None)
    except ClinvkError as error:
        sys.exit(f"{error.failure.code}: {error.failure.message}")
