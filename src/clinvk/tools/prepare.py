"""From what a caller asked for to what will run: defaults, policy, session, command. Starts nothing."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clinvk.backends import registry
from clinvk.backends.base import Backend, Login, Turn, unsupported
from clinvk.backends.values import IMAGE_TYPES
from clinvk.config.policy import check_workdir
from clinvk.config.settings import Config
from clinvk.errors import ClinvkError
from clinvk.events import TokenUsage
from clinvk.executor import environment
from clinvk.executor.plan import Plan, Prepared
from clinvk.executor.process import Limits
from clinvk.request import PromptOptions
from clinvk.sessions.model import Session
from clinvk.tools.app import App, new_id
from clinvk.tools.caller import Caller
from clinvk.tools.fields import check_schema
from clinvk.tools.options import Options, all_extra, resolve
from clinvk.tools.refused import traced

HANDOVER_CHARS = 200_000  # of the conversation so far, when it moves to another backend
FILE_BYTES = 512 * 1024  # of one text file that is put into the prompt


def prepare(app: App, options: PromptOptions, caller: Caller, run_id: str, *, lost: bool = False) -> Prepared:
    """Everything that a prompt needs to start. Raises ClinvkError for what cannot or may not be done.

    With `lost` the backend is known not to have the session's conversation any more: its transcript is handed over.
    """
    check_depth(app)
    check_schema(options.output_schema)
    warnings = app.ledger.check(app.config.limits.budget_usd_per_day)
    session = _session(app, options.session_id) if options.session_id else None
    backend = _backend(app, options, session)
    installation = app.installation(backend)
    workdir = _workdir(app, options, session, caller)
    chosen = resolve(app.config, backend, options, session)
    ask = caller.can_ask and "always" in backend.CAPABILITIES.approval_modes
    if chosen.approval == "always" and not ask:
        with traced(app.loaded, backend, options, session):
            raise unsupported(
                backend.NAME,
                "approval_mode",
                "always",
                f"{_cannot_ask(backend)}; accepted here: {', '.join(_unasked(backend))}",
            )
    native, told = _native_session(session, backend, lost=lost)
    warnings += [*told, *_forgone(chosen, backend)]
    prompt, images = _with_files(app, options, workdir)
    if session is not None and native is None and session.turn_count:
        prompt = _handed_over(app, session, prompt)
    ephemeral = options.ephemeral or (app.config.unified_flags.ephemeral and session is None)
    turn = Turn(
        prompt=prompt,
        workdir=workdir,
        scratch=app.runs.path(run_id) / "scratch",
        new_id=str(uuid.uuid4()),
        resume_id=native,
        model=chosen.model,
        system_prompt=chosen.system_prompt,
        approval=chosen.approval,
        ask=ask and chosen.approval in ("default", "always"),
        sandbox=chosen.sandbox,
        max_turns=chosen.max_turns,
        ephemeral=ephemeral,  # a backend that keeps its own record all the same refuses it
        images=(*images, *caller.attachments),
        output_schema=options.output_schema,
        allowed_tools=chosen.allowed_tools,
        extra=all_extra(chosen),
        usage_before=_usage_before(session) if native else None,
    )
    plan = Plan(
        run_id=run_id,
        backend=backend,
        turn=turn,
        prompt=options.prompt,
        session_id=None if ephemeral else session.id if session else new_id(),
        new_session=session is None,
        session_options=chosen.kept(),
        tags=tuple(dict.fromkeys([*(app.config.session.default_tags if session is None else ()), *options.tags])),
        metadata=options.metadata,
        warnings=tuple(warnings),
    )
    with traced(app.loaded, backend, options, session):
        command = backend.command(turn, installation)
    return Prepared(
        plan=plan,
        command=command,
        env=child_environment(app, backend, run_id=run_id),
        limits=_limits(app.config, options),
        refreshable_login=_login(app, backend).refreshable,
        without_session=None if native is None else lambda: prepare(app, options, caller, run_id, lost=True),
    )


def _unasked(backend: Backend) -> list[str]:
    return [mode for mode in backend.CAPABILITIES.approval_modes if mode != "always"]


def _cannot_ask(backend: Backend) -> str:
    if "always" not in backend.CAPABILITIES.approval_modes:
        return f"{backend.NAME} cannot hand its questions to a person when it runs without a terminal"
    return "nobody can be asked: this caller does not support elicitation"


def check_depth(app: App) -> None:
    """Stop an agent that calls clinvk that calls an agent. Raises ClinvkError(recursion_limit)."""
    depth = environment.depth(app.environ)
    limit = app.config.limits.max_depth
    if depth > limit:
        raise ClinvkError(
            "recursion_limit",
            f"this call comes from an agent that clinvk started, {depth} levels deep; at most {limit} are allowed",
            hint="do the work in this agent, or raise limits.max_depth",
            details={"depth": depth, "max_depth": limit, "chain_id": app.environ.get(environment.CHAIN)},
        )


def _session(app: App, asked: str) -> Session:
    """The session that is asked for. Raises ClinvkError, session_busy for one whose first turn is still running."""
    try:
        return app.sessions.load(app.sessions.resolve(asked))
    except ClinvkError as error:
        if error.failure.code != "session_not_found":
            raise
        running = _founding(app, asked)
        if running is None:
            raise
        raise ClinvkError(
            "session_busy",
            f"session {asked} begins with run {running}, which has not ended",
            hint=f"wait for run {running} to end, then continue the session",
            details={"field": "session_id", "value": asked, "run_id": running},
        ) from None


def _founding(app: App, session_id: str) -> str | None:
    """The run, of any process, that was promised this id for its session and still goes on."""
    for run_id in app.runs.unfinished():
        try:
            state = app.runs.state(run_id)
        except ClinvkError:
            continue  # damaged, or just removed
        if state.status == "running" and state.record.session_id == session_id:
            return run_id
    return None


def _backend(app: App, options: PromptOptions, session: Session | None) -> Backend:
    name = options.backend or (session.backend if session else None) or app.default_backend()
    return registry.get(name)


def _workdir(app: App, options: PromptOptions, session: Session | None, caller: Caller) -> Path:
    kept = Path(session.working_dir) if session and session.working_dir else None
    asked = options.workdir
    if asked is not None and not asked.startswith("~"):  # an absolute path stays what it is
        asked = str(caller.cwd / asked)
    workdir = check_workdir(asked, app.config, default=kept or caller.cwd)
    if session is not None and kept is not None and workdir != kept.resolve():
        raise ClinvkError(
            "invalid_request",
            f"session {session.id} belongs to {kept}, not to {workdir}",
            hint="leave workdir out to continue it there, or start a new session",
            details={"field": "workdir", "value": str(workdir), "session_workdir": str(kept)},
        )
    return workdir


def _native_session(session: Session | None, backend: Backend, *, lost: bool) -> tuple[str | None, list[str]]:
    """The backend's own conversation to resume, and what to tell the caller when there is none."""
    if session is None:
        return None, []
    if session.backend != backend.NAME:
        return None, [
            f"the conversation was handed over from {session.backend} to {backend.NAME}: its transcript was "
            "put before the prompt; tool results and hidden context of the former backend are not part of it"
        ]
    if lost or (session.backend_session_id is None and session.turn_count):
        return None, [f"{backend.NAME} has no conversation of its own for this session; the transcript was handed over"]
    return session.backend_session_id, []


def _forgone(chosen: Options, backend: Backend) -> list[str]:
    if chosen.unenforced_turns is None:
        return []
    return [
        f"max_turns={chosen.unenforced_turns}, which this session keeps, is not enforced: {backend.NAME} cannot limit "
        "its turns; timeout_secs bounds a run there, and the limit holds again on a backend that can"
    ]


def _usage_before(session: Session | None) -> TokenUsage | None:
    raw = session.native.get("usage") if session else None
    return TokenUsage(**raw) if raw else None


def _handed_over(app: App, session: Session, prompt: str) -> str:
    parts = ["This continues a conversation that another agent had with the user. What was said so far:"]
    for said, answered in app.sessions.transcript(session.id, HANDOVER_CHARS):
        parts.append(f"<user>\n{said}\n</user>\n<assistant>\n{answered}\n</assistant>")
    parts.append(f"The user now says:\n{prompt}")
    return "\n\n".join(parts)


def _with_files(app: App, options: PromptOptions, workdir: Path) -> tuple[str, tuple[Path, ...]]:
    """Images go to the backend as such; text files are put into the prompt, after it."""
    images: list[Path] = []
    prompt = options.prompt
    for name in options.files:
        path = _file(app, name, workdir)
        if path.suffix.lower() in IMAGE_TYPES:
            images.append(path)
        else:
            prompt += f'\n\n<file path="{path}">\n{_text(path, name)}\n</file>'
    return prompt, tuple(images)


def _file(app: App, name: str, workdir: Path) -> Path:
    try:
        path = (workdir / Path(name).expanduser()).resolve()
        if not path.is_file():
            raise _bad_file(name, "does not exist or is no file")
    except (OSError, RuntimeError) as error:  # a name too long; a symlink loop, or `~nobody`
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _bad_file(name, f"cannot be used: {reason}") from None
    if not path.is_relative_to(workdir):  # inside the workdir is allowed already; elsewhere the same rules hold
        try:
            check_workdir(str(path.parent), app.config, default=workdir)
        except ClinvkError as error:
            why = error.failure
            error.failure = replace(
                why, message=f"files: {name!r}: {why.message}", details={**why.details, "field": "files", "value": name}
            )
            raise
    return path


def _text(path: Path, name: str) -> str:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES:
            raise _bad_file(name, f"has {size:,} bytes; at most {FILE_BYTES:,} are accepted")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _bad_file(name, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _bad_file(name, f"is neither UTF-8 text nor an image ({', '.join(IMAGE_TYPES)})") from None


def _bad_file(name: str, why: str) -> ClinvkError:
    details = {"field": "files", "value": name}
    return ClinvkError("invalid_request", f"files: {name!r} {why}", hint="check the path", details=details)


def child_environment(app: App, backend: Backend, *, run_id: str) -> dict[str, str]:
    """The variables that a process of the backend gets, but for those of its command."""
    env = environment.child_environment(
        app.environ,
        backend.ENVIRONMENT,
        path=app.search_path(),
        extra=app.config.backend(backend.NAME).env,
        run_id=run_id,
    )
    env.setdefault("HOME", str(app.user_home))
    env[environment.HOME] = str(app.home)
    return env


def _login(app: App, backend: Backend) -> Login:
    return backend.login({**app.environ, **app.config.backend(backend.NAME).env}, app.user_home)


def _limits(config: Config, options: PromptOptions) -> Limits:
    limits = config.limits
    return Limits(
        timeout_secs=options.timeout_secs or limits.timeout_secs,
        stall_secs=limits.stall_secs,
        max_output_bytes=limits.max_output_bytes,
        grace_secs=limits.kill_grace_secs,
    )


def fingerprint(app: App, kind: str, request: Mapping[str, Any], caller: Caller) -> str:
    """What makes two requests of one client the same: everything but how long it waits.

    An agent that clinvk started does not ask for the run that it is itself a part of.
    """
    same = {key: value for key, value in request.items() if key not in ("wait_secs", "fresh")}
    whose = [caller.client, environment.depth(app.environ), str(caller.cwd)]
    text = json.dumps([kind, *whose, same], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
