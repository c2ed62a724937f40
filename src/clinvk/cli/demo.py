"""`clinvk demo`: the whole tool set shown on this machine."""

import argparse

from clinvk.cli import exits
from clinvk.cli.call import Call

NAME = "demo"
HELP = "show prompt, parallel, chain, compare and sessions through a real MCP client"
_DESCRIPTION = """\
Start `clinvk mcp` as a client would, connect a real MCP client to it and use prompt, parallel, chain, compare, runs and
sessions on the agent CLIs that are installed and logged in. They get tiny prompts, in an empty temporary folder, with
sandbox_mode read-only; this uses your accounts and costs about ten short answers. Where there is no such CLI, or with
--offline, the built-in backend `offline` answers instead: no model, no network, its answers repeat the prompt.

Sessions and runs of the demo are kept in a temporary folder and removed at its end; --keep leaves them in your own
CLINVK_HOME. Exit code 0 only if every step worked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = _DESCRIPTION
    parser.add_argument("--offline", action="store_true", help="use the built-in backend even where there are others")
    parser.add_argument("--keep", action="store_true", help="keep the demo's sessions and runs in your CLINVK_HOME")


def run(call: Call) -> int:
    """Show it."""
    loaded = call.loaded()
    from clinvk.mcp_server import demo

    report = demo.main(
        loaded,
        call.environ,
        say=call.console.note if call.wants_json(loaded) else call.console.say,
        offline=call.args.offline,
        keep=call.args.keep,
    )
    if call.wants_json(loaded):
        call.console.document(report)
    return exits.OK if report["ok"] else exits.GENERAL
