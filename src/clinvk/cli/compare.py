"""`clinvk compare PROMPT`: the same prompt on several backends."""

import argparse
from typing import Any

from clinvk.cli import options
from clinvk.cli.call import Call

NAME = "compare"
HELP = "put the same prompt to several agent CLIs, side by side"
_DESCRIPTION = """\
Put the same prompt to several agent CLIs and show their answers side by side with time, tokens and cost, ranked. With
--judge one of them reads the answers without names and in random order, scores them and says why. Without PROMPT, or
with - for it, the prompt is read from standard input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = _DESCRIPTION
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to do; quote it")
    parser.add_argument(
        "-b",
        "--backend",
        "--backends",
        action="append",
        type=options.given,
        metavar="NAMES",
        help="with commas, or repeated (default: all)",
    )
    parser.add_argument("-m", "--model", action="append", metavar="BACKEND=MODEL", help="model of one; repeatable")
    parser.add_argument("-w", "--workdir", type=options.given, metavar="DIR", help="folder to work in (default: here)")
    parser.add_argument("--judge", type=options.given, metavar="BACKEND", help="let this one judge the answers")
    parser.add_argument("--sequential", action="store_true", help="one after another instead of all at once")
    parser.add_argument("--stdin", action="store_true", help="put standard input after PROMPT")
    parser.add_argument("--dry-run", action="store_true", help="show the commands that would run; run nothing")
    options.timeout(parser)
    options.again(parser)


def run(call: Call) -> int:
    """Compare them."""
    from clinvk.cli import batch, sources
    from clinvk.cli.asking import UNTIL_THE_END
    from clinvk.cli.progress import Row
    from clinvk.request import CompareRequest
    from clinvk.tools import compare
    from clinvk.tools.app import at_rest
    from clinvk.tools.faults import validated

    args = call.args
    loaded = call.loaded()
    given: dict[str, Any] = {
        "prompt": sources.prompt(call.console, args.words, more=args.stdin),
        "backends": _names(args.backend) or None,
        "models": _models(args.model),
        "sequential": args.sequential,
        "judge": args.judge,
        "workdir": args.workdir,
        "timeout_secs": args.timeout,
        "wait_secs": 0 if args.background else UNTIL_THE_END,
        "fresh": args.fresh,
    }
    known = {name: value for name, value in given.items() if value is not None and value is not False}
    request = validated(CompareRequest, known, hint="see clinvk compare --help")
    request = compare.checked(at_rest(loaded, call.environ), request)
    rows = [Row("", name) for name in request.backends or []]
    if args.dry_run:
        judge = [Row("judge", request.judge)] if request.judge else []
        return batch.dry(call, loaded, [*rows, *judge], lambda app, caller: compare.planned(app, request, caller))
    return batch.carry_out(call, loaded, rows, lambda app, caller: compare.compare(app, request, caller))


def _names(given: list[str] | None) -> list[str]:
    return [name.strip() for part in given or () for name in part.split(",") if name.strip()]


def _models(given: list[str] | None) -> dict[str, str]:
    from clinvk.cli import sources

    models: dict[str, str] = {}
    for pair in given or ():
        backend, equals, model = pair.partition("=")
        if not equals or not backend or not model:
            raise sources.confused(f"--model {pair!r} is not BACKEND=MODEL", "as in --model claude=opus")
        models[backend] = model
    return models
