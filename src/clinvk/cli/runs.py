"""`clinvk runs`: what runs, what came of it, and how to stop it."""

import argparse
from typing import TYPE_CHECKING, Any

from clinvk.cli import exits, options
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded
    from clinvk.tools.app import App

NAME = "runs"
HELP = "list, show, wait for, cancel and clean up runs, whoever started them"
_DESCRIPTION = """\
Runs of every door: of this command, of MCP clients and of the HTTP gateway. Those that ended and were not looked at
come first. An id may be cut to a beginning that only one run has.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its actions."""
    parser.description = _DESCRIPTION
    actions = options.actions(parser)
    listing = actions.add("list", "runs: unread ones first, then the newest")
    listing.add_argument("-b", "--backend", type=options.given, help="only those of this backend")
    listing.add_argument("-w", "--workdir", type=options.given, metavar="DIR", help="only those of this folder")
    listing.add_argument(
        "--status", help="only those with this status: completed, failed, cancelled, running, interrupted, unread"
    )
    listing.add_argument("--query", metavar="TEXT", help="only those with this in title or id")
    options.page(listing, "runs", 20)
    _id(actions.add("show", "one run: its state, its result or how far it has come, its parts"))
    wait = actions.add(
        "wait", "wait for the end of a run and show its answer", more="Ctrl-C ends the wait, not the run."
    )
    _id(wait)
    wait.add_argument(
        "--timeout", type=options.seconds, metavar="SECONDS", help="wait no longer; exit code 6 if it still runs"
    )
    output = actions.add("output", "the whole answer of a run, a part of it, or the lines that hold a text")
    _id(output)
    output.add_argument("--query", metavar="TEXT", help="only lines that hold this, with their offsets")
    options.page(output, "characters", 0)
    cancel = actions.add("cancel", "stop runs and everything they started")
    cancel.add_argument("ids", nargs="+", metavar="ID")
    clean = actions.add(
        "clean",
        "remove old records; never of a run that goes on or was not looked at",
        more="See limits.run_retention_*.",
    )
    clean.add_argument("--older-than", type=int, metavar="DAYS", help="default: limits.run_retention_days")
    clean.add_argument("--all", action="store_true", help="however old they are")
    clean.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")


def run(call: Call) -> int:
    """Do the action."""
    from clinvk.tools.app import at_rest

    loaded = call.loaded()
    app = at_rest(loaded, call.environ)
    match call.args.action:
        case "list":
            return _list(call, loaded, app)
        case "cancel":
            return _cancel(call, app)
        case "clean":
            return _clean(call, loaded, app)
        case _:
            return _followed(call, loaded, app)


def _followed(call: Call, loaded: "Loaded", app: "App") -> int:
    from clinvk.cli import following  # and with it an event loop

    match call.args.action:
        case "show":
            return following.show(call, loaded, app)
        case "wait":
            return following.wait(call, loaded, app)
        case _:
            return following.output(call, app)


def _list(call: Call, loaded: "Loaded", app: "App") -> int:
    from clinvk.cli import listing
    from clinvk.request import RunsRequest
    from clinvk.tools.faults import validated
    from clinvk.tools.runlist import page

    args = vars(call.args)
    wanted: dict[str, Any] = {name: args[name] for name in ("backend", "status", "query", "limit", "offset")}
    if args["workdir"]:
        from clinvk.cli.asking import folder  # and with it all that a prompt needs

        wanted["workdir"] = folder(args["workdir"])
    given = {"action": "list"} | {name: value for name, value in wanted.items() if value is not None}
    result = page(app, validated(RunsRequest, given, hint="see clinvk runs --help"))
    found = result.runs or []
    if call.wants_json():
        document = result.model_dump(mode="json")
        call.console.document({name: value for name, value in document.items() if value is not None})
        return exits.OK
    if found:
        listing.say(call, loaded, listing.runs(found))
    total, offset = result.total or 0, args["offset"] or 0
    if not total:
        call.console.note("no runs")
    elif offset >= total:
        call.console.note(f"no runs from {offset} on; there are {total}")
    elif result.next_offset is not None:
        call.console.note(f"{len(found)} of {total}; more with --offset {result.next_offset}")
    for warning in result.warnings:
        call.console.note(f"clinvk: warning: {warning}")
    return exits.OK


def _cancel(call: Call, app: "App") -> int:
    from clinvk.awaiting import awaited
    from clinvk.request import CancelRequest
    from clinvk.tools.runs import cancel

    ids = [app.runs.resolve(given) for given in call.args.ids]
    cancelled = [awaited(cancel, app, CancelRequest(run_id=run_id)) for run_id in ids]
    if call.wants_json():
        documents = [result.model_dump(mode="json") for result in cancelled]
        call.console.document(documents[0] if len(documents) == 1 else documents)
    for result in cancelled:
        what = f"had ended already: {result.status}" if result.already_ended else result.status
        call.console.note(f"{result.run_id} {what}")
    return exits.GENERAL if any(result.status == "running" for result in cancelled) else exits.OK


def _clean(call: Call, loaded: "Loaded", app: "App") -> int:
    import time

    from clinvk.cli import choosing
    from clinvk.cli.sources import confused
    from clinvk.tools import retention

    days: int | None = call.args.older_than
    if days is not None and (days < 1 or call.args.all):
        raise confused(f"--older-than {days}: give at least 1 day, and no --all", "--all removes them however old")
    if call.args.all and not choosing.is_sure("Remove the records of all finished runs?", yes=call.args.yes):
        call.console.note("nothing was removed")
        return exits.GENERAL
    limits = loaded.config.limits
    now = time.time()
    if call.args.all:
        days, now = 1, now + 2 * retention.DAY
    if days is not None:
        limits = limits.model_copy(update={"run_retention_days": days})
    removed = retention.clean_runs(app, limits, now)
    if call.wants_json():
        call.console.document({"removed": removed})
    else:
        call.console.note(f"removed {len(removed)} runs")
    return exits.OK
