"""`clinvk resume [ID] [PROMPT]`: go on in a session."""

import argparse
import sys

from clinvk.cli import options, prompt
from clinvk.cli.call import Call

NAME = "resume"
HELP = "go on in a session: by its id, the newest one, or one that you choose"
_DESCRIPTION = """\
Go on in a session: the one with this id (a unique beginning will do), with --last the newest of this folder, or, on a
terminal, one that you choose from a list. It keeps its folder, backend, model, sandbox and approval modes; with another
--backend the transcript is handed over. Without PROMPT it is read from standard input, or asked for.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The id, and what a turn takes."""
    parser.description = _DESCRIPTION
    parser.add_argument("words", nargs="*", metavar="[ID] [PROMPT]", help="which session, and what to do")
    parser.add_argument("--last", action="store_true", help="the newest session of this folder; all words are PROMPT")
    options.where(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the command that would run; run nothing")
    prompt.add_turn_flags(parser)
    parser.set_defaults(ephemeral=False)


def run(call: Call) -> int:
    """Ask, and show the answer."""
    from clinvk.cli import asking, choosing, sources
    from clinvk.tools.app import at_rest

    args = call.args
    loaded = call.loaded()
    app = at_rest(loaded, call.environ)
    words: list[str] = list(args.words)
    if args.last:
        session_id = asking.newest(app, args.workdir)
    elif words:
        session_id = app.sessions.resolve(words.pop(0))
    elif sys.stdin.isatty() and sys.stderr.isatty():
        session_id = choosing.session(app, asking.folder(args.workdir))
    else:
        raise sources.confused(
            "no session named", "clinvk resume ID, or clinvk resume --last; see clinvk sessions list"
        )
    text = sources.prompt(call.console, words, more=args.stdin, unasked=True)
    return asking.ask(call, loaded, prompt.fields(call, text), lambda _app: session_id)
