"""Questions to the person at the terminal."""

import sys

from clinvk.cli import listing
from clinvk.cli.sources import confused
from clinvk.errors import ClinvkError
from clinvk.sessions.model import Session, SessionFilter
from clinvk.tools.app import App
from clinvk.tools.sessions import summary

SHOWN = 10


def session(app: App, folder: str) -> str:
    """One of the newest sessions of a folder, or of all where it has none."""
    from rich.console import Console
    from rich.prompt import IntPrompt

    from clinvk.cli import tables

    found = _newest(app, SessionFilter(workdir=folder)) or _newest(app, SessionFilter())
    if not found:
        raise ClinvkError("session_not_found", "there is no session yet", hint='begin one: clinvk "what to do"')
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    listed = listing.sessions([summary(app, each) for each in found], numbered=True)
    console.print(tables.drawn(listed) if listed.width() <= console.width else "\n".join(listed.stacked()))
    choices = [str(number) for number in range(1, len(found) + 1)]
    try:
        number = IntPrompt.ask("which one", choices=choices, default=1, console=console)
    except EOFError:
        raise confused("no session chosen", "give its number, or its id as an argument") from None
    return found[number - 1].id


def _newest(app: App, wanted: SessionFilter) -> list[Session]:
    return app.sessions.page(wanted, limit=SHOWN).sessions


def is_sure(question: str, *, yes: bool) -> bool:
    """Whether to do it: asked at a terminal, unless --yes; a script means what it says."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    from rich.console import Console
    from rich.prompt import Confirm

    try:
        return Confirm.ask(question, default=False, console=Console(stderr=True))
    except EOFError:
        return False
