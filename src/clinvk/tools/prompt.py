"""One prompt on one backend."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import anyio
from pydantic import BaseModel

from clinvk.backends.base import Backend
from clinvk.backends.failures import naming_version
from clinvk.errors import ClinvkError, Failure
from clinvk.executor import plan as plans
from clinvk.executor.live import LiveRun
from clinvk.executor.plan import Prepared
from clinvk.executor.runs import RunRecord
from clinvk.request import PromptOptions, PromptRequest
from clinvk.response import DryRunResult, PromptResult, RunStatus
from clinvk.sessions.model import first_line
from clinvk.tools.app import App, new_id
from clinvk.tools.backends import version
from clinvk.tools.caller import Caller
from clinvk.tools.conversation import keeping
from clinvk.tools.prepare import fingerprint, prepare
from clinvk.tools.waiting import answered

LOOK_SECS = 0.1  # how often a run whose session is in use looks whether it is free
AMOUNT_DIGITS = 8  # a number of so many may be a secret
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")


async def prompt(app: App, request: PromptRequest, caller: Caller) -> PromptResult | DryRunResult:
    """Run one prompt and wait for it. Raises ClinvkError for what was refused before anything started."""
    if request.dry_run:
        return dry_run(app, request, caller)
    mark = fingerprint(app, "prompt", request.model_dump(exclude_defaults=True), caller)
    wait = (request.wait_secs, request.fresh, mark)
    return await answered(app, PromptResult, caller, wait, lambda: start(app, request, caller, mark=mark))


def start(
    app: App,
    options: PromptOptions,
    caller: Caller,
    *,
    mark: str = "",
    parent: LiveRun | None = None,
    position: int = 0,
) -> LiveRun:
    """Admit a prompt and drive it in the background. Raises ClinvkError when it is refused."""
    run_id = new_id()
    prepared = prepare(app, options, caller, run_id)
    plan = prepared.plan
    with ExitStack() as stack:
        locks = _lock_session(app, prepared, stack)
        record = RunRecord(
            id=run_id,
            kind="prompt",
            created_at=time.time(),
            client=caller.client,
            parent_id=parent.record.id if parent else None,
            position=position if parent else None,
            name=getattr(options, "name", None),
            backend=plan.backend.NAME,
            model=plan.turn.model,
            workdir=str(plan.turn.workdir),
            session_id=plan.session_id,
            title=first_line(options.prompt),
            fingerprint=mark,
            request=options.model_dump(exclude_defaults=True),
            plan=plans.dump(plan),
        )
        live = app.executor.host(
            record, lambda live: _run(app, prepared, live, locks, held), lambda failure: failed(record, failure)
        )
        held = stack.pop_all()
    if parent is not None:
        parent.adopt_child(live)
        app.runs.add_child(parent.record.id, run_id)
    return live


async def _run(app: App, prepared: Prepared, live: LiveRun, locks: Sequence[int], held: ExitStack) -> BaseModel:
    explain = partial(_with_program, app, prepared.plan.backend)
    with held:
        return await app.executor.execute(replace(prepared, explain=explain), live, locks, keeping(app))


_OF_THE_PROGRAM = ("backend_changed", "output_unreadable")


async def _with_program(app: App, backend: Backend, failure: Failure) -> Failure:
    """The failure with what the installed program is: its version, or that it seems to be another one."""
    if failure.code not in _OF_THE_PROGRAM:
        return failure
    try:
        found = app.installation(backend)
        installed = await version(app, backend, found)
    except (ClinvkError, OSError):  # the program is gone, or the disk is full
        return failure
    if installed is not None:
        return naming_version(failure, installed)
    hint = f"{found.path} does not tell its version: is it {backend.TITLE}? To install: {backend.INSTALL_HINT}"
    return replace(failure, hint=hint)


async def rerun(app: App, live: LiveRun, caller: Caller) -> PromptResult:
    """Run a recorded prompt that was never started, under its own id and that of the session it was promised."""
    record = live.record
    fields = {name: value for name, value in record.request.items() if name in PromptOptions.model_fields}
    options = PromptOptions.model_validate({**fields, "workdir": record.workdir})
    with ExitStack() as stack:
        locks = await _session_in_turn(app, live, stack)  # first: what another turn changed of it counts
        prepared = prepare(app, options, caller, record.id)
        prepared = replace(prepared, plan=replace(prepared.plan, session_id=record.session_id))
        result = await app.executor.execute(prepared, live, locks, keeping(app))
    assert isinstance(result, PromptResult)
    return result


async def _session_in_turn(app: App, live: LiveRun, stack: ExitStack) -> list[int]:
    """The lock of the session that an admitted run continues; another may have had it since its driver was lost."""
    record = live.record
    if record.session_id is None or record.plan.get("new_session", True):
        return []
    while True:
        try:
            return [stack.enter_context(app.sessions.turn_lock(record.session_id, record.id))]
        except ClinvkError as error:
            if error.failure.code != "session_busy":
                raise
        if live.cancelled or app.runs.marked(record.id, "cancel"):
            raise ClinvkError("cancelled", "cancelled before it was started", hint="ask for it again")
        await anyio.sleep(LOOK_SECS)


def _lock_session(app: App, prepared: Prepared, stack: ExitStack) -> list[int]:
    """The lock of the session that the run continues, held until no process of the run is left."""
    plan = prepared.plan
    if plan.session_id is None or plan.new_session:
        return []
    return [stack.enter_context(app.sessions.turn_lock(plan.session_id, plan.run_id))]


def failed(record: RunRecord, failure: Failure) -> PromptResult:
    """The result of a prompt that could not be run."""
    status: RunStatus = "cancelled" if failure.code == "cancelled" else "failed"
    return PromptResult(run_id=record.id, status=status, backend=record.backend, model=record.model, error=failure)


def refused(options: PromptOptions, error: ClinvkError) -> PromptResult:
    """The result of a prompt that was refused before it became a run."""
    return PromptResult(
        run_id="", status="failed", backend=options.backend or "", model=options.model, error=error.failure
    )


def dry_run(app: App, options: PromptOptions, caller: Caller) -> DryRunResult:
    """What the prompt would start; nothing is started, nothing is written."""
    prepared = prepare(app, options, caller, "dry-run")
    env = {**prepared.env, **prepared.command.env}
    secrets = [value for name, value in env.items() if any(word in name.upper() for word in SECRET_NAMES)]
    return DryRunResult(
        backend=prepared.plan.backend.NAME,
        model=prepared.plan.turn.model,
        argv=[_redacted(part, secrets) for part in prepared.command.argv],
        cwd=str(prepared.command.cwd),
        env=sorted(env),
        stdin_chars=len(prepared.command.stdin.decode("utf-8", "replace")),
        warnings=list(prepared.plan.warnings),
    )


def _redacted(part: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret and not _is_amount(secret):
            part = part.replace(secret, "[redacted]")
    return part


def _is_amount(value: str) -> bool:
    """Whether it is that of a variable such as MAX_THINKING_TOKENS: a digit or two stand in every argv."""
    return value.isdigit() and len(value) < AMOUNT_DIGITS
