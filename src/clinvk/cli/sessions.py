"""`clinvk sessions`: list, read and edit conversations."""

import argparse
from typing import TYPE_CHECKING, Any

from clinvk.cli import exits, options
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded
    from clinvk.response import SessionsResult, SessionSummary, SessionTurn
    from clinvk.tools.app import App

NAME = "sessions"
HELP = "list, search, show, fork, tag, rename, export and delete conversations"
_DESCRIPTION = """\
List, read and edit conversations. An id may be cut to a beginning that only one session has. Go on in one with
clinvk resume ID, or with clinvk -c in the newest of this folder.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its actions."""
    parser.description = _DESCRIPTION
    actions = options.actions(parser)
    _filters(actions.add("list", "sessions, last used first"))
    search = actions.add("search", "sessions in which all these words were said")
    search.add_argument("query", nargs="+", metavar="WORD", help="words to look for in prompts, answers and titles")
    _filters(search)
    show = actions.add("show", "one session with its turns; export has them uncut")
    _id(show)
    options.page(show, "turns", 20)
    _id(actions.add("fork", "copy a session; the copy goes its own way"))
    for name, help_ in (("tag", "add tags"), ("untag", "remove tags")):
        tag = actions.add(name, help_)
        _id(tag)
        tag.add_argument("tags", nargs="+", metavar="TAG")
    rename = actions.add("rename", "give another title")
    _id(rename)
    rename.add_argument("title", metavar="TITLE")
    export = actions.add("export", "the whole session as one text")
    _id(export)
    export.add_argument("--format", choices=("markdown", "json"), help="default: markdown, with -o json: json")
    export.add_argument("--to", metavar="FILE", help="write it there instead of standard output")
    delete = actions.add("delete", "remove sessions for good", more="On a terminal it asks first.")
    delete.add_argument("ids", nargs="+", metavar="ID")
    _yes(delete)
    clean = actions.add("clean", "remove sessions that were not used for a while", more="On a terminal it asks first.")
    clean.add_argument(
        "--older-than", type=options.days, metavar="DAYS", help="default: session.retention_days; 0 keeps all for ever"
    )
    _yes(clean)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-b", "--backend", type=options.given, help="only those of this backend")
    parser.add_argument("-w", "--workdir", type=options.given, metavar="DIR", help="only those of this folder")
    parser.add_argument("--tag", help="only those with this tag")
    parser.add_argument("--status", help="only those with this status: idle, active, failed, running")
    options.page(parser, "sessions", 20)


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")


def _yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(call: Call) -> int:
    """Do the action."""
    from clinvk.tools.app import at_rest

    loaded = call.loaded()
    app = at_rest(loaded, call.environ)
    match call.args.action:
        case "list" | "search" | "show":
            return _read(call, loaded, app)
        case "export":
            return _export(call, app)
        case "delete":
            return _delete(call, app)
        case "clean":
            return _clean(call, loaded, app)
        case _:
            return _edit(call, app)


def _read(call: Call, loaded: "Loaded", app: "App") -> int:
    from clinvk.request import SessionsRequest
    from clinvk.tools import sessions as operations
    from clinvk.tools.faults import validated

    args = vars(call.args)
    workdir = args.get("workdir")
    if workdir:
        from clinvk.cli.asking import folder  # and with it all that a prompt needs

        workdir = folder(workdir)
    asked: dict[str, Any] = {
        "action": args["action"],
        "session_id": args.get("id"),
        "query": " ".join(args["query"]) if "query" in args else None,
        "workdir": workdir or None,
        **{name: args.get(name) for name in ("backend", "tag", "status", "limit", "offset")},
    }
    given = {name: value for name, value in asked.items() if value is not None}
    result = operations.read(app, validated(SessionsRequest, given, hint="see clinvk sessions --help"))
    if call.wants_json():
        document = result.model_dump(mode="json")
        call.console.document({name: value for name, value in document.items() if value is not None})
    elif result.session is None:
        _say_page(call, loaded, result)
    else:
        _say_session(call, result)
    for warning in result.warnings:
        call.console.note(f"clinvk: warning: {warning}")
    return exits.OK


def _say_page(call: Call, loaded: "Loaded", result: "SessionsResult") -> None:
    from clinvk.cli import listing

    if result.sessions:
        listing.say(call, loaded, listing.sessions(result.sessions))
    more = _more(result)
    if more:
        call.console.note(more)


def _more(result: "SessionsResult") -> str:
    """What the page does not show; those that cannot be read were looked at, and warnings name them."""
    after = result.offset + result.limit
    looked_at = min(after, result.total) - result.offset
    more = f"more with --offset {after}" if after < result.total else ""
    if not result.total:
        return "no sessions"
    if looked_at <= 0:
        return f"no sessions from {result.offset} on; there are {result.total}"
    if not result.sessions:
        return f"none of {looked_at} sessions can be read" + (f"; {more}" if more else "")
    return f"{len(result.sessions)} of {result.total}; {more}" if more else ""


def _say_session(call: Call, result: "SessionsResult") -> None:
    assert result.session is not None
    lines = [f"{name}: {value}" for name, value in _facts(result.session, result.backend_session_id).items() if value]
    call.console.text("\n".join(lines))
    for turn in result.turns or ():
        call.console.text(_turn(turn))
    shown = result.offset + len(result.turns or ())
    if shown < result.total:
        call.console.note(f"turn {shown} of {result.total}; more with --offset {shown}")


def _facts(session: "SessionSummary", native: str | None) -> dict[str, str | None]:
    from clinvk.cli import results

    return {
        "session": session.id,
        "title": session.title,
        "status": session.status,
        "backend": f"{session.backend}{f' (its own id: {native})' if native else ''}",
        "model": session.model,
        "folder": session.working_dir,
        "began": session.created_at,
        "used": session.last_used,
        "turns": str(session.turn_count),
        "tokens": results.tokens(session.token_usage),
        "cost": results.cost(session.cost_usd),
        "tags": ", ".join(session.tags),
        "forked from": session.parent_id,
    }


def _turn(turn: "SessionTurn") -> str:
    about = [turn.ended_at, turn.backend, turn.model, None if turn.status == "completed" else turn.status]
    said = "\n".join(f"> {line}" for line in turn.prompt.splitlines())
    answer = f"{turn.output}\n" if turn.output else ""
    error = f"{turn.error}\n" if turn.error else ""
    return (
        f"\n--- turn {turn.number} · {' · '.join(part for part in about if part)}\n{said}\n\n{answer}{error}".rstrip()
    )


def _edit(call: Call, app: "App") -> int:
    from clinvk.request import SessionEditRequest
    from clinvk.tools import sessions as operations
    from clinvk.tools.faults import validated

    args = vars(call.args)
    given = {"action": args["action"], "session_id": args["id"]}
    given |= {name: args[name] for name in ("tags", "title") if name in args}
    request = validated(SessionEditRequest, given, hint="see clinvk sessions --help")
    session = operations.edit(app, request).session
    assert session is not None
    if call.wants_json():
        call.console.document(session.model_dump(mode="json"))
    elif args["action"] == "fork":
        call.console.say(session.id)
    elif args["action"] == "rename":
        call.console.note(f"{session.id}: {session.title}")
    else:
        call.console.note(f"{session.id}: {', '.join(session.tags) or 'no tags'}")
    return exits.OK


def _export(call: Call, app: "App") -> int:
    from pathlib import Path

    from clinvk.cli.sources import confused

    format_ = call.args.format or ("json" if call.wants_json() else "markdown")
    text = app.sessions.export(app.sessions.resolve(call.args.id), format_)
    if call.args.to is None:
        call.console.text(text.removesuffix("\n"))
        return exits.OK
    try:
        Path(call.args.to).write_text(text, encoding="utf-8")
    except OSError as error:
        raise confused(f"--to {call.args.to}: {error.strerror}", "name a file that can be written") from error
    call.console.note(f"wrote {call.args.to}")
    return exits.OK


def _delete(call: Call, app: "App") -> int:
    from clinvk.cli import choosing

    ids = [app.sessions.resolve(given) for given in call.args.ids]
    what = f"session {ids[0]}" if len(ids) == 1 else f"{len(ids)} sessions"
    if not choosing.is_sure(f"Delete {what} for good?", yes=call.args.yes):
        call.console.note("nothing was deleted")
        return exits.GENERAL
    for session_id in ids:
        app.sessions.delete(session_id)
    if call.wants_json():
        call.console.document({"deleted": ids})
    else:
        call.console.note(f"deleted {', '.join(ids)}")
    return exits.OK


def _clean(call: Call, loaded: "Loaded", app: "App") -> int:
    from clinvk.cli import choosing

    given: float | None = call.args.older_than
    days = loaded.config.session.retention_days if given is None else given
    if days == 0:
        call.console.note("sessions are kept for ever: session.retention_days is 0; --older-than DAYS removes some now")
        removed: list[str] = []
    elif choosing.is_sure(f"Delete all sessions not used for {days:g} days?", yes=call.args.yes):
        removed = app.sessions.clean(days)
    else:
        call.console.note("nothing was deleted")
        return exits.GENERAL
    if call.wants_json():
        call.console.document({"deleted": removed})
    else:
        call.console.note(f"deleted {len(removed)} sessions")
    return exits.OK
