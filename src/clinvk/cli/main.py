"""The edge of the command line: every error becomes a message, a hint and an exit code here."""

import io
import os
import sys
from collections.abc import Sequence

from clinvk.cli import completion, exits
from clinvk.cli.call import Call
from clinvk.cli.console import Console, UnwritableError, discard
from clinvk.cli.parser import VERBS, Commands, UsageError, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but `SystemExit` of `--help` leaves here."""
    _prepare_streams()
    try:
        code = _done(list(sys.argv[1:] if argv is None else argv))
        Console().flush()
        return code
    except KeyboardInterrupt:
        Console().complain("interrupted")
        return exits.CANCELLED
    except (BrokenPipeError, UnwritableError) as error:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return exits.BROKEN_PIPE
        Console().complain(
            f"standard output cannot be written: {error}",
            "make room, or let it go elsewhere; answers are kept: clinvk runs list",
        )
        return exits.GENERAL


def _done(argv: list[str]) -> int:
    """The exit code of the command; whatever went wrong was told."""
    call: Call | None = None
    try:
        if "_ARGCOMPLETE" in os.environ:
            completion.answer(Commands().completing)
        args = parse(argv)
        call = Call(args, os.environ)
        return VERBS[args.verb].run(call)
    except UsageError as error:
        Console().complain(str(error), error.hint)
        return exits.GENERAL
    except (BrokenPipeError, UnwritableError):
        raise
    except Exception as error:  # noqa: BLE001  the one place of this edge
        return _failed(error, call.format if call is not None else "text")


def _prepare_streams() -> None:
    """Standard streams that are there, and take every character.

    Where the caller closed one, the next file to be opened would get its number, and what we write with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _failed(error: Exception, format_: str) -> int:
    import json
    import traceback
    from dataclasses import asdict

    from clinvk.config.problems import ConfigError
    from clinvk.errors import ClinvkError, Failure

    if isinstance(error, ClinvkError):
        failure = error.failure
    else:
        traceback.print_exception(error)
        failure = Failure(
            code="internal",
            message=f"{type(error).__name__}: {error}",
            hint="this is a fault in clinvk; please report it with the lines above",
        )
    console = Console()
    if format_ == "json":
        console.document({"error": asdict(failure)})
    elif format_ == "stream-json":
        console.say(json.dumps({"type": "error", "error": asdict(failure)}, ensure_ascii=False))
    console.complain(failure.message, failure.hint)
    return exits.CONFIGURATION if isinstance(error, ConfigError) else exits.of_error(failure.code)
