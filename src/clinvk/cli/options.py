"""Flags that several verbs share. A flag that has no meaning for a verb is not there, so it is refused, not ignored."""

import argparse
from collections.abc import Sequence

FORMATS = ("text", "json", "stream-json")
APPROVAL = ("default", "auto", "none", "always")  # as in clinvk.request, which costs too much to be imported here
SANDBOX = ("default", "read-only", "workspace", "full")


def shared(add: argparse.ArgumentParser, *, result: bool = True) -> None:
    """What every verb takes; `result`: it writes one, in a form that can be chosen."""
    add.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="configuration file (default: ~/.clinvk/config.yaml)",
    )
    add.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="no notes and warnings")
    if result:
        add.add_argument(
            "-o",
            "--output-format",
            choices=FORMATS,
            default=argparse.SUPPRESS,
            help="how the result is written (default: text, or output.format)",
        )


def actions(parser: argparse.ArgumentParser) -> "Actions":
    """The actions of a verb."""
    return Actions(parser.add_subparsers(dest="action", metavar="ACTION", required=True))


class Actions:
    """Adds actions, which take the shared flags as well."""

    def __init__(self, below: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:  # pyright: ignore[reportPrivateUsage]
        self._below = below

    def add(self, name: str, help_: str, *, more: str = "") -> argparse.ArgumentParser:
        """One action; `more` follows its help in its own help text."""
        parser = self._below.add_parser(
            name,
            help=help_,
            description=f"{help_[:1].upper()}{help_[1:]}.{' ' if more else ''}{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        shared(parser)
        return parser


def given(text: str) -> str:
    """A value that is there, for argparse: a variable of a script that is not set must not mean the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty; leave the flag out for the default")
    return text


def where(parser: argparse.ArgumentParser) -> None:
    """Which backend, model and folder."""
    parser.add_argument(
        "-b", "--backend", type=given, help="agent CLI to use (default: default_backend, else the first installed)"
    )
    parser.add_argument("-m", "--model", type=given, help="its model (default: the backend's)")
    parser.add_argument("-w", "--workdir", type=given, metavar="DIR", help="folder to work in (default: here)")


def how(parser: argparse.ArgumentParser) -> None:
    """What a run may do, and whether it is kept or done at all."""
    parser.add_argument("--ephemeral", action="store_true", help="keep no session")
    parser.add_argument("--dry-run", action="store_true", help="show the command that would run; run nothing")


def again(parser: argparse.ArgumentParser) -> None:
    """Whether to wait, and whether an earlier run of the same will do."""
    parser.add_argument(
        "--background", "--detach", action="store_true", help="do not wait: print the run's id, see clinvk runs"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start anew even if the same request still runs in the background"
    )


def limits(parser: argparse.ArgumentParser) -> None:
    """Modes and bounds of one prompt."""
    parser.add_argument(
        "--approval-mode",
        metavar="MODE",
        choices=APPROVAL,
        help=f"{', '.join(APPROVAL)}: auto approves what the sandbox permits, none refuses what would ask, always asks",
    )
    parser.add_argument(
        "--sandbox-mode", metavar="MODE", choices=SANDBOX, help=f"{', '.join(SANDBOX)}: what the agent may change"
    )
    timeout(parser)
    parser.add_argument("--max-turns", type=int, metavar="N", help="most turns of the agent")


def days(text: str) -> float:
    """A number of days, for argparse: no more than the configuration takes."""
    return _amount(text, 36_500)


def seconds(text: str) -> float:
    """A number of seconds, for argparse: a week at most."""
    return _amount(text, 7 * 86_400)


def _amount(text: str, most: int) -> float:
    value = float(text)
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to {most:,}")
    return value


def timeout(parser: argparse.ArgumentParser) -> None:
    """The deadline of a run."""
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop after this time (default: limits.timeout_secs)"
    )


def page(parser: argparse.ArgumentParser, what: str, limit: int) -> None:
    """Which part of a listing."""
    parser.add_argument("--limit", type=int, metavar="N", help=f"most {what} (default: {limit})")
    parser.add_argument("--offset", type=int, metavar="N", help=f"leave out the first N {what}")


def known(parser: argparse.ArgumentParser) -> dict[str, bool]:
    """Every flag of a parser, and whether a value follows it."""
    found: dict[str, bool] = {}
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage] - argparse tells this in no other way
        found.update(dict.fromkeys(action.option_strings, action.nargs != 0))
    return found


def first_word(argv: Sequence[str], flags: dict[str, bool]) -> int | None:
    """The place of the first argument that is neither a flag nor the value of one; `--` counts as one."""
    place = 0
    while place < len(argv):
        word = argv[place]
        if word == "--" or not word.startswith("-") or word == "-":
            return place
        place += 2 if flags.get(word) else 1
    return None
