"""`clinvk parallel -f FILE`: several prompts at once."""

import argparse
from typing import Any

from clinvk.cli import options
from clinvk.cli.call import Call

NAME = "parallel"
HELP = "run the prompts of a file at once"
_DESCRIPTION = """\
Run the prompts of a JSON or YAML file at once, on the same or on different agent CLIs; answers come in the order of the
file. On a terminal a table shows what each of them does. The flags below are for tasks that do not say it themselves.
"""
EPILOG = """\
a file (docs/cli.md has all keys; a bare list of tasks will do as well):
  max_parallel: 3
  tasks:
    - {name: review, backend: codex, prompt: Review the last commit., sandbox_mode: read-only}
    - {name: tests, backend: claude, prompt: Which tests are missing?}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = _DESCRIPTION
    parser.epilog = EPILOG
    add_file_flags(parser)
    parser.add_argument(
        "--max-parallel", type=int, metavar="N", help="most tasks at once (default: parallel.max_workers)"
    )
    parser.add_argument(
        "--fail-fast",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="cancel the others when one fails (default: parallel.fail_fast)",
    )


def add_file_flags(parser: argparse.ArgumentParser) -> None:
    """What parallel and chain have in common."""
    parser.add_argument("-f", "--file", required=True, metavar="FILE", help="JSON or YAML; - for standard input")
    parser.add_argument(
        "--output-dir", type=options.given, metavar="DIR", help="write each answer into a file there, and result.json"
    )
    options.where(parser)
    options.limits(parser)
    options.how(parser)
    options.again(parser)


def defaults(call: Call) -> dict[str, Any]:
    """What the flags say for tasks that do not."""
    args = call.args
    given: dict[str, Any] = {
        "backend": args.backend,
        "model": args.model,
        "workdir": args.workdir,
        "approval_mode": args.approval_mode,
        "sandbox_mode": args.sandbox_mode,
        "timeout_secs": args.timeout,
        "max_turns": args.max_turns,
        "ephemeral": args.ephemeral or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def run(call: Call) -> int:
    """Run them."""
    from clinvk.cli import batch, taskfile
    from clinvk.cli.progress import Row
    from clinvk.request import ParallelRequest, Text
    from clinvk.tools import dryrun, parallel

    class File(ParallelRequest):
        output_dir: Text | None = None

    args = call.args
    loaded = call.loaded()
    file = taskfile.read(args.file).request(File, "tasks", defaults(call))
    update = {"max_parallel": args.max_parallel, "fail_fast": args.fail_fast}
    request = taskfile.completed(ParallelRequest, file, update, call)
    rows = [Row(task.name or task.id or "", task.backend or "") for task in request.tasks]
    if args.dry_run or dryrun.is_dry("tasks", request.tasks):
        return batch.dry(call, loaded, rows, lambda app, caller: parallel.planned(app, request, caller))
    return batch.carry_out(
        call,
        loaded,
        rows,
        lambda app, caller: parallel.parallel(app, request, caller),
        args.output_dir or file.output_dir,
    )
