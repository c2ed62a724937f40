"""`clinvk keys`: who may use the HTTP servers."""

import argparse
from typing import TYPE_CHECKING

from clinvk.cli import exits, options
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from clinvk.web.keys import ApiKey

NAME = "keys"
HELP = "create, list and revoke API keys of the HTTP servers"
_DESCRIPTION = """\
Create, list and revoke API keys of `clinvk serve` and `clinvk mcp --transport http`. Only a hash of a key is kept, so
it is shown once, when it is made. Servers that run notice at once. Keys in the variable CLINVK_API_KEYS count as well.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its actions."""
    parser.description = _DESCRIPTION
    actions = options.actions(parser)
    create = actions.add("create", "make a key and print it, this once")
    create.add_argument("name", metavar="NAME", help="whose it is; logs show it")
    actions.add("list", "whose keys there are, and how they begin")
    revoke = actions.add("revoke", "forget the key of somebody")
    revoke.add_argument("name", metavar="NAME")


def run(call: Call) -> int:
    """Do the action."""
    from clinvk.web import keys

    loaded = call.loaded()
    match call.args.action:
        case "create":
            key = keys.create(loaded.home, call.args.name)
            if call.wants_json():
                call.console.document({"name": call.args.name, "key": key})
            else:
                call.console.say(key)
                call.console.note("keep it now: it is not shown again; send it as `Authorization: Bearer KEY`")
        case "list":
            _list(call, keys.listed(loaded.home))
        case _:
            keys.revoke(loaded.home, call.args.name)
            if call.wants_json():
                call.console.document({"revoked": call.args.name})
            else:
                call.console.note(f"the key of {call.args.name} is revoked")
    return exits.OK


def _list(call: Call, found: "list[ApiKey]") -> None:
    from clinvk.cli.console import columns
    from clinvk.web.keys import VARIABLE

    if call.wants_json():
        call.console.document([key.model_dump(mode="json", exclude={"sha256"}) for key in found])
    elif found:
        rows = [(key.name, f"{key.begins}...", key.created_at) for key in found]
        call.console.say("\n".join(columns([("NAME", "KEY", "CREATED"), *rows])))
    else:
        call.console.note("no keys")
    if call.environ.get(VARIABLE):
        call.console.note(f"those of {VARIABLE} count as well")
