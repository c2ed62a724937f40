"""`clinvk [PROMPT]`, or `clinvk prompt`: one prompt on one backend."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clinvk.cli import options
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from clinvk.tools.app import App

NAME = "prompt"
HELP = "send a prompt to an agent CLI (the verb may be left out)"
_DESCRIPTION = """\
Send a prompt to an agent CLI, which works in this folder, and show its answer.

On a terminal everything that the agent says appears as it comes, below it a line with backend, elapsed time and the
tool in use. On a pipe there is the answer and nothing else, once it is known which message that is; --stream writes
all messages as they come there as well. Notes, progress and errors go to standard error. With -o json the whole
result is written, with -o stream-json every event of the run, one per line.

Without PROMPT, or with - for it, the prompt is read from standard input; --stdin puts standard input after PROMPT.
Ctrl-C stops the run and everything it started; what there is of the answer is kept and shown.
"""
EPILOG = """\
examples:
  clinvk "why does the test fail?"                      the default backend, in this folder
  clinvk -b codex --sandbox-mode read-only "review it"   nothing is changed
  clinvk -c "and now fix it"                            goes on in the newest session of this folder
  git diff | clinvk --stdin "review this diff"          the prompt, then the diff
  id=$(clinvk --background "migrate it"); clinvk runs wait $id
"""


def add_main_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that are shown for `clinvk` itself."""
    options.where(parser)
    parser.add_argument(
        "-c", "--continue", dest="go_on", action="store_true", help="go on in the newest session of this folder"
    )
    options.how(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every field of a prompt."""
    parser.description = _DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to do; quote it")
    add_main_flags(parser)
    add_more_flags(parser)


def add_more_flags(parser: argparse.ArgumentParser) -> None:
    """The others, which may stand before the verb as well, or without it."""
    parser.add_argument(
        "-s", "--session", type=options.given, metavar="ID", help="go on in this session (a unique beginning will do)"
    )
    parser.add_argument("--new", action="store_true", help="a new session, whatever session.auto_resume says")
    add_turn_flags(parser)


def add_turn_flags(parser: argparse.ArgumentParser) -> None:
    """What is asked of one turn, new session or not."""
    options.limits(parser)
    parser.add_argument("--system-prompt", metavar="TEXT", help="instructions beside the prompt")
    parser.add_argument("--file", metavar="PATH", action="append", help="show the agent this file or image; repeatable")
    parser.add_argument("--output-schema", metavar="FILE", help="JSON Schema that the answer must match")
    parser.add_argument("--tag", type=options.given, metavar="TAG", action="append", help="tag the session; repeatable")
    parser.add_argument("--metadata", metavar="KEY=VALUE", action="append", help="note this in the session; repeatable")
    parser.add_argument(
        "--extra",
        metavar="FLAG",
        action="append",
        help="a flag of the CLI itself, as clinvk backends lists; repeatable",
    )
    parser.add_argument("--stdin", action="store_true", help="put standard input after PROMPT")
    parser.add_argument("--stream", action="store_true", help="write what the agent says as it comes, also on a pipe")
    options.again(parser)


def run(call: Call) -> int:
    """Ask, and show the answer."""
    from clinvk.cli import asking, sources

    args = call.args
    if args.go_on + (args.session is not None) + args.new > 1:
        raise sources.confused("--continue, --session and --new exclude each other", "name one of them")
    if args.ephemeral and (args.go_on or args.session):
        raise sources.confused("--ephemeral keeps no session, so it cannot go on in one", "leave one of them out")
    loaded = call.loaded()
    text = sources.prompt(call.console, args.words, more=args.stdin)

    def session(app: "App") -> str | None:
        if args.session is not None:
            return str(args.session)
        if args.go_on:
            return asking.newest(app, args.workdir)
        if loaded.config.session.auto_resume and not (args.new or args.ephemeral):
            return asking.resumable(app, args.workdir, args.backend, call.console)
        return None

    return asking.ask(call, loaded, fields(call, text), session)


def fields(call: Call, text: str) -> dict[str, Any]:
    """The request as its flags say it."""
    args = call.args
    given: Mapping[str, object] = {
        "prompt": text,
        "backend": args.backend,
        "model": args.model,
        "workdir": args.workdir,
        "approval_mode": args.approval_mode,
        "sandbox_mode": args.sandbox_mode,
        "system_prompt": args.system_prompt,
        "max_turns": args.max_turns,
        "timeout_secs": args.timeout,
        "ephemeral": args.ephemeral or None,
        "files": args.file,
        "output_schema": None if args.output_schema is None else _schema(args.output_schema),
        "extra": args.extra,
        "tags": args.tag,
        "metadata": _metadata(args.metadata),
        "dry_run": args.dry_run or None,
        "fresh": args.fresh or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _schema(name: str) -> dict[str, Any]:
    import json
    from pathlib import Path

    from clinvk.cli import sources

    path = Path(name)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise sources.confused(f"--output-schema: {path}: {error.strerror}", "name a readable JSON file") from error
    except (ValueError, RecursionError) as error:
        raise sources.confused(f"--output-schema: {path} is not JSON: {error}", "correct the file") from error
    if not isinstance(schema, dict):
        raise sources.confused(f"--output-schema: {path} holds no JSON object", "a JSON Schema is an object")
    return schema  # pyright: ignore[reportUnknownVariableType]


def _metadata(pairs: list[str] | None) -> dict[str, str] | None:
    from clinvk.cli import sources

    if pairs is None:
        return None
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise sources.confused(f"--metadata {pair!r} is not KEY=VALUE", "as in --metadata ticket=42")
        found[name] = value
    return found
