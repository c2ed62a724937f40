"""Carries out parallel, chain and compare: a live table on a terminal, every answer at the end."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from clinvk.cli import asking, driving, exits, outputs, parts, results, sources, terminal
from clinvk.cli.call import Call
from clinvk.cli.parts import Parts
from clinvk.cli.progress import Row
from clinvk.cli.views import EventsView, ProgressView
from clinvk.config.cascade import Loaded
from clinvk.response import DryRunsResult
from clinvk.tools.app import App, at_rest
from clinvk.tools.caller import Caller

Operation = Callable[[App, Caller], Awaitable[Parts | DryRunsResult]]


def carry_out(call: Call, loaded: Loaded, rows: Sequence[Row], operation: Operation, folder: str | None = None) -> int:
    """Do it and show it; the exit code. Full answers are written to `folder` as well, if one is given."""
    if folder is not None and call.args.background:
        raise sources.confused(
            "output_dir: nobody would be there to write the answers of a run in the background",
            "leave out --background or output_dir; clinvk runs show has the answers of such a run",
        )
    into = None if folder is None else outputs.made(driving.working_directory() / Path(folder).expanduser())

    async def saved(app: App, caller: Caller) -> Parts:
        result = await operation(app, caller)
        assert not isinstance(result, DryRunsResult)  # `dry` shows those
        if into is not None and result.status != "running":
            outputs.write(into, app, result)
        return result

    result = driving.driven(call, loaded, saved, _view(call, loaded, rows))
    if call.format == "json":
        call.console.document(result.model_dump(mode="json"))
    if result.status == "running":
        results.handed_out(call, result)
    elif call.format == "text":
        parts.say(call, loaded, at_rest(loaded, call.environ), result)
    if result.error is not None:
        call.console.complain(result.error.message, result.error.hint)
    if into is not None and result.status != "running":
        call.console.note(f"clinvk: the answers are in {into}")
    return results.exit_code(result)


def _view(call: Call, loaded: Loaded, rows: Sequence[Row]) -> driving.View[Parts]:
    if call.format == "stream-json":
        return EventsView(call, loaded)
    if not terminal.is_terminal(sys.stderr, call.environ) or call.console.quiet:
        return ProgressView(call, loaded)
    from clinvk.cli.live import TableView

    return TableView(call, loaded, rows)


def dry(call: Call, loaded: Loaded, rows: Sequence[Row], planned: Callable[[App, Caller], DryRunsResult]) -> int:
    """What each part would start."""
    caller = Caller(client="cli", cwd=driving.working_directory())
    result = planned(at_rest(loaded, call.environ), caller)
    if call.wants_json():
        call.console.document(result.model_dump(mode="json"))
        return exits.OK
    for number, (row, each) in enumerate(zip(rows, result.results, strict=True), 1):
        call.console.say(f"--- {number} {row.name}".rstrip())
        asking.say_dry_run(call, each)
    return exits.OK
