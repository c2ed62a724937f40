"""Prompts one after another, each fed from the ones before."""

import re
from collections.abc import Mapping

from clinvk.errors import ClinvkError
from clinvk.executor.live import LiveRun
from clinvk.request import ChainRequest, ChainStep
from clinvk.response import ChainResult, DryRunsResult, DryRunStep, PromptResult
from clinvk.tools import assemble, composite, dryrun, output
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.children import child

PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


async def chain(app: App, request: ChainRequest, caller: Caller) -> ChainResult | DryRunsResult:
    """Run the steps in order. Raises ClinvkError(invalid_request) for an unknown placeholder, before it starts."""
    if dryrun.is_dry("steps", request.steps):
        return planned(app, request, caller)
    check_placeholders(request.steps)
    return await composite.run(app, request, caller, ChainResult, drive)


def planned(app: App, request: ChainRequest, caller: Caller) -> DryRunsResult:
    """What the steps would start. Raises ClinvkError for the first that would be refused."""
    check_placeholders(request.steps)
    results: list[DryRunStep] = []
    workdir: str | None = None
    for number, step in enumerate(request.steps, 1):
        workdir = _workdir(request, step, workdir)
        options = step.model_copy(update={"workdir": workdir})
        place = (assemble.step_name(step, number), f"steps[{number - 1}].")
        plan = dryrun.planned(app, place, options, caller)
        if PLACEHOLDER.search(step.prompt):
            plan.warnings.append("its prompt has placeholders, which are filled when it runs")
        results.append(DryRunStep(**dict(plan), step=number, name=step.name))
    return DryRunsResult(results=[*results])


def _workdir(request: ChainRequest, step: ChainStep, before: str | None) -> str | None:
    """Where a step works, as far as the chain says it."""
    return step.workdir or (before if request.pass_working_dir else None)


async def drive(app: App, live: LiveRun, caller: Caller) -> ChainResult:
    """Run what has not run yet of the steps."""
    request = ChainRequest.model_validate(live.record.request)
    results: dict[int, PromptResult] = {}
    outputs: dict[str, str] = {}
    workdir: str | None = None
    for number, step in enumerate(request.steps, 1):
        workdir = _workdir(request, step, workdir)
        options = step.model_copy(update={"prompt": filled(step.prompt, outputs), "workdir": workdir})
        result = results[number] = await child(app, live, options, caller, number)
        if result.status != "completed" and (request.stop_on_failure or result.status == "cancelled"):
            break
        outputs["previous"] = output.whole(app, result)
        if step.name:
            outputs[f"steps.{step.name}"] = outputs["previous"]
    return assemble.chain(live.record, request, results, None)


def check_placeholders(steps: list[ChainStep]) -> None:
    """Every placeholder must name something that exists when its step begins; names must be unique."""
    known: list[str] = []
    for number, step in enumerate(steps, 1):
        for name in PLACEHOLDER.findall(step.prompt):
            if name not in known:
                accepted = ", ".join(f"{{{{{k}}}}}" for k in known) or "none in the first step"
                raise ClinvkError(
                    "invalid_request",
                    f"{assemble.step_name(step, number)}: unknown placeholder {{{{{name}}}}}",
                    hint=f"accepted here: {accepted}",
                    details={"field": f"steps[{number - 1}].prompt", "value": name, "accepted": known},
                )
        if step.name and f"steps.{step.name}" in known:
            raise ClinvkError(
                "invalid_request",
                f"steps[{number - 1}].name {step.name!r} is used twice",
                hint="give each step a name of its own",
                details={"field": f"steps[{number - 1}].name", "value": step.name},
            )
        if number == 1:
            known.append("previous")
        if step.name:
            known.append(f"steps.{step.name}")


def filled(prompt: str, outputs: Mapping[str, str]) -> str:
    """The prompt with its placeholders replaced, once: what an answer contains is never read as a placeholder."""
    return PLACEHOLDER.sub(lambda found: outputs.get(found[1], ""), prompt)
