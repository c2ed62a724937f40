"""The command line: global flags, and the verbs with theirs."""

import argparse
from collections.abc import Mapping
from difflib import get_close_matches
from typing import NoReturn, Protocol

from clinvk import __version__
from clinvk.cli import backends, config, demo, doctor, mcp, version
from clinvk.cli.call import Call

FORMATS = ("text", "json", "stream-json")
_EPILOG = """\
exit codes: 0 ok, 1 general, 2 backend not available, 3 configuration, 4 session, 5 API, 6 timeout, 7 cancelled

`clinvk VERB --help` tells more. First steps: clinvk doctor, clinvk demo.
"""


class Verb(Protocol):
    """A module of `clinvk.cli` that is one command. It imports what it needs when it runs, not before."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module constant
    @property
    def HELP(self) -> str: ...  # noqa: N802

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Its own flags; a `description` for its help."""
        ...

    def run(self, call: Call) -> int:
        """Do it; the exit code. Raises ClinvkError."""
        ...


_MODULES: tuple[Verb, ...] = (mcp, backends, doctor, config, demo, version)
VERBS: Mapping[str, Verb] = {verb.NAME: verb for verb in _MODULES}


class UsageError(Exception):
    """The command line cannot be understood."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def build() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = _Parser(
        prog="clinvk",
        description="One MCP server through which any agent uses every AI agent CLI on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"clinvk {__version__}")
    parser.set_defaults(config=None, quiet=False, output_format=None)
    shared = _shared()
    _add_globals(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, verb in VERBS.items():
        below = verbs.add_parser(
            name,
            help=verb.HELP,
            parents=[shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_arguments(below)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line's meaning. Raises UsageError; SystemExit after `--help` and `--version`."""
    word = next((part for part in argv if not part.startswith("-")), None)
    parser = build()
    try:
        args = parser.parse_args(argv)
    except UsageError as error:
        if word is not None and word not in VERBS and "invalid choice" in str(error):
            raise _unknown(word) from None
        raise
    if args.verb is None:
        raise UsageError("no verb given", f"verbs: {', '.join(VERBS)}; see clinvk --help")
    return args


def _unknown(word: str) -> UsageError:
    near = get_close_matches(word, VERBS, n=1)
    nearest = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"no verb {word!r}", f"{nearest}verbs: {', '.join(VERBS)}")


def _shared() -> _Parser:
    """The global flags once more for a verb: they may stand before it or after it."""
    shared = _Parser(add_help=False)
    _add_globals(shared)
    return shared


def _add_globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="configuration file (default: ~/.clinvk/config.yaml)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="no notes and warnings")
    parser.add_argument(
        "-o",
        "--output-format",
        choices=FORMATS,
        default=argparse.SUPPRESS,
        help="how the result is written (default: text, or output.format)",
    )
