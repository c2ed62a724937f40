"""Several prompts at once."""

import anyio
import anyio.lowlevel

from clinvk.executor.live import LiveRun
from clinvk.request import ParallelRequest, PromptOptions
from clinvk.response import DryRunsResult, DryRunTask, ParallelResult, PromptResult
from clinvk.tools import assemble, composite, dryrun
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.children import child


async def parallel(app: App, request: ParallelRequest, caller: Caller) -> ParallelResult | DryRunsResult:
    """Run the tasks, at most `max_parallel` at a time; results in task order. Raises ClinvkError before it starts."""
    if dryrun.is_dry("tasks", request.tasks):
        return planned(app, request, caller)
    return await composite.run(app, request, caller, ParallelResult, drive)


def planned(app: App, request: ParallelRequest, caller: Caller) -> DryRunsResult:
    """What the tasks would start. Raises ClinvkError for the first that would be refused."""
    plans = [
        dryrun.planned(app, (f"task {number}", f"tasks[{number - 1}]."), task, caller)
        for number, task in enumerate(request.tasks, 1)
    ]
    return DryRunsResult(
        results=[
            DryRunTask(**dict(plan), task=number, id=task.id, name=task.name)
            for number, (plan, task) in enumerate(zip(plans, request.tasks, strict=True), 1)
        ]
    )


async def drive(app: App, live: LiveRun, caller: Caller) -> ParallelResult:
    """Run what has not run yet of the tasks."""
    request = ParallelRequest.model_validate(live.record.request)
    workers = anyio.CapacityLimiter(request.max_parallel or app.config.parallel.max_workers)
    fail_fast = app.config.parallel.fail_fast if request.fail_fast is None else request.fail_fast
    results: dict[int, PromptResult] = {}
    stopped = anyio.Event()

    async def one(number: int, options: PromptOptions) -> None:
        async with workers:
            if stopped.is_set():
                return
            results[number] = await child(app, live, options, caller, number)
        if fail_fast and results[number].status == "failed" and not stopped.is_set():
            stopped.set()
            for sibling in live.children:
                sibling.cancel()

    async with anyio.create_task_group() as tasks:
        for number, task in enumerate(request.tasks, 1):
            tasks.start_soon(one, number, task)
            await anyio.lowlevel.checkpoint()  # so that the first commands run while the last are being prepared
    return assemble.parallel(live.record, request, results, None)
