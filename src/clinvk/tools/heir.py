"""Drives a handed-out run on when its server is gone: `python -m clinvk.tools.heir`, started by the keeper."""

import argparse
import os
import sys
from pathlib import Path

import anyio

from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.errors import ClinvkError
from clinvk.executor import plan as plans
from clinvk.executor.executor import Work
from clinvk.executor.live import LiveRun
from clinvk.executor.process import started
from clinvk.response import PromptResult
from clinvk.tools import chain, compare, composite, parallel, settle
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Caller
from clinvk.tools.conversation import keeping
from clinvk.tools.heirs import heir_argv
from clinvk.tools.prompt import failed, rerun

GENERATIONS = 3  # an heir has an heir of its own, but one that a run kills each time is not started for ever


async def inherit(app: App, run_id: str, lock: int, generation: int = 1) -> None:
    """Bring one run to its end; its lock is held already and was never let go."""
    record = app.runs.record(run_id)
    caller = composite.caller_of(record)
    work: Work
    match record.kind:
        case "parallel":
            work = composite.work(app, caller, parallel.drive)
        case "chain":
            work = composite.work(app, caller, chain.drive)
        case "compare":
            work = composite.work(app, caller, compare.drive)
        case "prompt":

            async def work_on_prompt(live: LiveRun) -> settle.Result:
                return await _prompt(app, live, caller)

            work = work_on_prompt

    on_failure = failed if record.kind == "prompt" else composite.failed
    live = app.executor.adopt(record, lock, work, lambda failure: on_failure(record, failure))
    if generation < GENERATIONS:
        app.executor.bequeath(live, heir_argv(app, generation + 1))
    await live.done.wait()


async def _prompt(app: App, live: LiveRun, caller: Caller) -> settle.Result:
    record = live.record
    folder = app.runs.path(record.id)
    if not started(folder):
        return await rerun(app, live, caller)  # it was still in the queue
    plan = plans.load(record.plan, record.id, registry.get(record.backend), record.request["prompt"])
    result = await app.executor.resume(plan, live, keeping(app))
    assert isinstance(result, PromptResult)
    return result


async def _main(home: Path, config: Path | None, runs: list[tuple[str, int]], generation: int) -> None:
    environ = {**os.environ, "CLINVK_HOME": str(home)}
    loaded = load(environ, path=config, known_backends=registry.BACKENDS)
    async with opened(loaded, environ) as app, anyio.create_task_group() as tasks:
        for run_id, lock in runs:
            if app.runs.result(run_id) is None:
                tasks.start_soon(_inherit_or_tell, app, run_id, lock, generation)


async def _inherit_or_tell(app: App, run_id: str, lock: int, generation: int) -> None:
    """Bring one run to its end, or say why not: the others are driven on all the same."""
    try:
        await inherit(app, run_id, lock, generation)
    except ClinvkError as error:  # its record was damaged: nothing of it was begun
        sys.stderr.write(f"run {run_id}: {error.failure.message}\n")
        os.close(lock)


def _run(text: str) -> tuple[str, int]:
    run_id, _, lock = text.partition(":")
    os.set_inheritable(int(lock), False)
    return run_id, int(lock)


def main() -> int:
    """Parse the command line that `heirs.heir_argv` and the keeper write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--run", type=_run, action="append", required=True)
    parser.add_argument("--generation", type=int, default=1)
    words = parser.parse_args()
    try:
        anyio.run(_main, words.home, words.config, words.run, words.generation)
    except ClinvkError as error:
        sys.stderr.write(f"runs {words.run}: {error.failure.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
