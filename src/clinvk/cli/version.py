"""`clinvk version`."""

import argparse

from clinvk import __version__
from clinvk.cli import exits
from clinvk.cli.call import Call

NAME = "version"
HELP = "print the version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""
    parser.description = "Print the version. With -o json also that of Python."


def run(call: Call) -> int:
    """Print it."""
    if call.wants_json():
        import platform

        call.console.document({"version": __version__, "python": platform.python_version()})
    else:
        call.console.say(f"clinvk {__version__}")
    return exits.OK
