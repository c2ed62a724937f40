"""`clinvk install CLIENT`: write clinvk into the configuration of an MCP client."""

import argparse
from typing import TYPE_CHECKING, Any

from clinvk.cli import exits
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from pathlib import Path

    from clinvk.cli.clients import Client

NAME = "install"
CHOICES = ("claude-desktop", "claude-code", "codex", "gemini", "cursor", "vscode")  # of clients.CLIENTS, for the help
HELP = "write clinvk into the configuration of an MCP client"
_DESCRIPTION = """\
Write clinvk into the configuration of an MCP client. The file is copied first; whatever else it says stays as it is,
comments included. The entry names this clinvk by its absolute path, and for applications with a window, which do not
read your shell's profile, also the PATH on which the agent CLIs are found. Keys are never written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which client, and what to do."""
    parser.description = _DESCRIPTION
    parser.add_argument("client", metavar="CLIENT", choices=CHOICES, help=", ".join(CHOICES))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", dest="show", action="store_true", help="show what would be written; write nothing")
    what.add_argument("--uninstall", action="store_true", help="take clinvk out again")


def run(call: Call) -> int:
    """Write it."""
    from clinvk.backends import locate
    from clinvk.cli import clientfile, clients
    from clinvk.config.cascade import user_home

    call.loaded()  # a client would start a server with a configuration that cannot be used
    client = clients.CLIENTS[call.args.client]
    home = user_home(call.environ)
    path = client.path(call.environ, home)
    wanted = None
    if not call.args.uninstall:
        wanted = clients.entry(client, call.environ, locate.search_path(call.environ, home), call.config_path)
    if call.args.show:
        assert wanted is not None
        if call.wants_json():
            _say(call, client, path, wanted, (False, None))
            return exits.OK
        call.console.note(f"# {path}")
        call.console.say(clientfile.shown(client, wanted))
        return exits.OK
    changed = clientfile.change(client, path, wanted)
    _say(call, client, path, wanted, changed)
    return exits.OK


def _say(
    call: Call, client: "Client", path: "Path", wanted: dict[str, Any] | None, changed: "tuple[bool, Path | None]"
) -> None:
    written, backup = changed
    if call.wants_json():
        call.console.document(
            {
                "client": call.args.client,
                "path": str(path),
                "changed": written,
                "backup": None if backup is None else str(backup),
                "entry": wanted,
            }
        )
        return
    if not written:
        call.console.say(f"{path}: nothing to change, clinvk is {'there already' if wanted else 'not in it'}")
        return
    call.console.say(f"{client.title}: {'wrote' if wanted else 'took'} clinvk {'into' if wanted else 'out of'} {path}")
    if backup is not None:
        call.console.note(f"before that it was copied to {backup}")
    if wanted is not None:
        call.console.note(f"next: {client.then}")
