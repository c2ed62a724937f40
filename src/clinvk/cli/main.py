"""The edge of the command line: every error becomes a message, a hint and an exit code here."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from clinvk.cli import completion, exits
from clinvk.cli.call import Call
from clinvk.cli.console import Console
from clinvk.cli.parser import VERBS, Commands, UsageError, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but `SystemExit` of `--help` leaves here."""
    args: Namespace | None = None
    try:
        if "_ARGCOMPLETE" in os.environ:
            completion.answer(Commands().root)
        args = parse(list(sys.argv[1:] if argv is None else argv))
        code = VERBS[args.verb].run(Call(args, os.environ))
        sys.stdout.flush()
        return code
    except UsageError as error:
        Console().complain(str(error), error.hint)
        return exits.GENERAL
    except KeyboardInterrupt:
        sys.stderr.write("clinvk: interrupted\n")
        return exits.CANCELLED
    except BrokenPipeError:
        # Else the interpreter tries to flush once more at its end, and says so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  the one place of this edge
        return _failed(error, wants_json=args is not None and args.output_format == "json")


def _failed(error: Exception, *, wants_json: bool) -> int:
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
    if wants_json:
        console.document({"error": asdict(failure)})
    console.complain(failure.message, failure.hint)
    return exits.CONFIGURATION if isinstance(error, ConfigError) else exits.of_error(failure.code)
