"""`clinvk chain -f FILE`: prompts one after another."""

import argparse

from clinvk.cli.call import Call
from clinvk.cli.parallel import add_file_flags, defaults

NAME = "chain"
HELP = "run the prompts of a file one after another, each fed from the ones before"
_DESCRIPTION = """\
Run the prompts of a JSON or YAML file one after another. {{previous}} in a prompt stands for the answer before it,
{{steps.NAME}} for that of the step with this name. On a terminal a table shows how far it is. The flags below are for
steps that do not say it themselves.
"""
EPILOG = """\
a file (docs/cli.md has all keys; a bare list of steps will do as well):
  steps:
    - {name: plan, backend: claude, prompt: "Plan how to speed up the tests.", sandbox_mode: read-only}
    - {backend: codex, prompt: "Do what this plan says:\\n{{steps.plan}}", sandbox_mode: workspace}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = _DESCRIPTION
    parser.epilog = EPILOG
    add_file_flags(parser)
    parser.add_argument("--keep-going", action="store_true", help="go on after a step that failed")
    parser.add_argument(
        "--pass-working-dir", action="store_true", help="steps without a workdir work in that of the step before"
    )


def run(call: Call) -> int:
    """Run them."""
    from clinvk.cli import batch, taskfile
    from clinvk.cli.progress import Row
    from clinvk.request import ChainRequest, Text
    from clinvk.tools import chain, dryrun

    class File(ChainRequest):
        output_dir: Text | None = None

    args = call.args
    loaded = call.loaded()
    file = taskfile.read(args.file).request(File, "steps", defaults(call))
    update = {
        "stop_on_failure": False if args.keep_going else None,
        "pass_working_dir": True if args.pass_working_dir else None,
    }
    request = taskfile.completed(ChainRequest, file, update, call)
    chain.check_placeholders(request.steps)
    rows = [Row(step.name or "", step.backend or "") for step in request.steps]
    if args.dry_run or dryrun.is_dry("steps", request.steps):
        return batch.dry(call, loaded, rows, lambda app, caller: chain.planned(app, request, caller))
    return batch.carry_out(
        call,
        loaded,
        rows,
        lambda app, caller: chain.chain(app, request, caller),
        args.output_dir or file.output_dir,
    )
