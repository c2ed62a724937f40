"""Sends one prompt and shows what came of it; the common part of `prompt` and `resume`."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinvk.cli import driving, results
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
        show_dry_runs(call, [planned])
        return 0

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


def show_dry_runs(call: Call, planned: list[DryRunResult]) -> None:
    """What would run."""
    if call.wants_json():
        documents = [each.model_dump(mode="json") for each in planned]
        call.console.document(documents[0] if len(documents) == 1 else documents)
        return
    for number, each in enumerate(planned):
        if number:
            call.console.say("")
        call.console.say(f"backend: {each.backend}{f', model {each.model}' if each.model else ''}")
        call.console.say(f"command: {shlex.join(each.argv)}")
        call.console.say(f"folder:  {each.cwd}")
        call.console.say(f"stdin:   {each.stdin_chars:,} characters")
        call.console.say(f"environment: {', '.join(each.env)}")
        for warning in each.warnings:
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
            details={"workdir": where},
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
