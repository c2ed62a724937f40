"""Sends one prompt and shows what came of it; the common part of `prompt` and `resume`."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinvk.cli import driving, exits, results
from clinvk.cli.call import Call
from clinvk.cli.console import Console
from clinvk.cli.views import AnswerView, EventsView, ProgressView
from clinvk.config.cascade import Loaded
from clinvk.errors import ClinvkError
from clinvk.request import PromptRequest
from clinvk.response import DryRunResult, PromptResult
from clinvk.sessions.model import Session, SessionFilter
from clinvk.tools import prompt as prompts
from clinvk.tools.app import App, at_rest
from clinvk.tools.caller import Caller
from clinvk.tools.faults import validated

UNTIL_THE_END = 86_400.0  # longer than any run may take, its time in the queue included


def ask(call: Call, loaded: Loaded, fields: dict[str, Any], session: Callable[[App], str | None]) -> int:
    """Send the prompt; the exit code. `session` chooses what it continues."""
    background: bool = call.args.background
    request = validated(
        PromptRequest, {**fields, "wait_secs": 0 if background else UNTIL_THE_END}, hint="see clinvk prompt --help"
    )

    def continued(app: App) -> PromptRequest:
        return request.model_copy(update={"session_id": session(app)})

    if request.dry_run:
        app = at_rest(loaded, call.environ)
        planned = prompts.dry_run(app, continued(app), Caller(client="cli", cwd=driving.working_directory()))
        if call.wants_json():
            call.console.document(planned.model_dump(mode="json"))
        else:
            say_dry_run(call, planned)
        return exits.OK

    async def operation(app: App, caller: Caller) -> PromptResult:
        result = await prompts.prompt(app, continued(app), caller)
        assert isinstance(result, PromptResult)
        return result

    return shown(call, loaded, driving.driven(call, loaded, operation, _view(call, loaded)))


def _view(call: Call, loaded: Loaded) -> driving.View[PromptResult]:
    match call.format:
        case "stream-json":
            return EventsView(call, loaded)
        case "json":
            return ProgressView(call, loaded)
        case _:
            return AnswerView(call, loaded, live=call.args.stream)


def shown(call: Call, loaded: Loaded, result: PromptResult) -> int:
    """What the view did not show: the document, notes, errors; the exit code."""
    if call.format == "json":
        call.console.document(result.model_dump(mode="json"))
    elif result.status == "running":
        results.handed_out(call, result)
    results.tell(call.console, result)
    results.count(call, loaded, [result])
    return results.exit_code(result)


def say_dry_run(call: Call, planned: DryRunResult) -> None:
    """What would run."""
    call.console.say(f"backend: {planned.backend}{f', model {planned.model}' if planned.model else ''}")
    call.console.say(f"command: {shlex.join(planned.argv)}")
    call.console.say(f"folder:  {planned.cwd}")
    call.console.say(f"stdin:   {planned.stdin_chars:,} characters")
    call.console.say(f"environment: {', '.join(planned.env)}")
    for warning in planned.warnings:
        call.console.note(f"clinvk: warning: {warning}")


def folder(workdir: str | None) -> str:
    """The folder that a command is about, as sessions keep it."""
    here = driving.working_directory()
    return str((here / Path(workdir).expanduser()).resolve() if workdir else here.resolve())


def newest(app: App, workdir: str | None) -> str:
    """The newest session of a folder. Raises ClinvkError(session_not_found) where there is none."""
    where = folder(workdir)
    page = app.sessions.page(SessionFilter(workdir=where), limit=1)
    if not page.sessions:
        raise ClinvkError(
            "session_not_found",
            f"no session of {where} to go on in",
            hint="leave --continue out to begin one; clinvk sessions list shows those of other folders",
            details={"field": "continue", "workdir": where},
        )
    return page.sessions[0].id


def resumable(app: App, workdir: str | None, backend: str | None, console: Console) -> str | None:
    """The newest session of this folder and backend that nobody uses right now (session.auto_resume)."""
    wanted = SessionFilter(workdir=folder(workdir), backend=backend or app.default_backend())
    found: list[Session] = app.sessions.page(wanted, limit=1).sessions
    if not found or found[0].status == "running":
        return None
    console.note(f"clinvk: going on in session {found[0].id} ({found[0].title}); --new begins another")
    return found[0].id
