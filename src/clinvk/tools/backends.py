"""What is installed on this machine, and what each backend can enforce."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from clinvk.backends import registry
from clinvk.backends.base import Backend, Installation
from clinvk.errors import ClinvkError
from clinvk.files import private_folder, write_whole
from clinvk.response import BackendInfo, BackendsResult
from clinvk.tools.app import App
from clinvk.tools.brief import said
from clinvk.tools.prepare import child_environment

VERSION_SECS = 20.0  # gemini needs 3 s on an idle machine, 7 s were seen on a busy one


async def backends(app: App) -> BackendsResult:
    """Every backend, its version asked of the program itself (and remembered until the program changes)."""
    infos: dict[str, BackendInfo] = {}

    async def one(name: str, backend: Backend) -> None:
        infos[name] = await describe(app, backend)

    async with anyio.create_task_group() as tasks:
        for name, backend in registry.BACKENDS.items():
            tasks.start_soon(one, name, backend)
    limits = app.config.limits
    try:
        default = app.default_backend()
    except ClinvkError:
        default = None
    return BackendsResult(
        backends=[infos[name] for name in registry.BACKENDS],
        default_backend=default,
        limits={
            "max_concurrent": limits.max_concurrent,
            "max_per_backend": limits.max_per_backend,
            "queue_length": limits.queue_length,
            "timeout_secs": limits.timeout_secs,
            "stall_secs": limits.stall_secs,
            "max_depth": limits.max_depth,
            "running": app.executor.admission.running,
            "waiting": app.executor.admission.waiting,
        },
    )


async def describe(app: App, backend: Backend) -> BackendInfo:
    """One backend as it is on this machine."""
    settings = app.config.backend(backend.NAME)
    can = backend.CAPABILITIES
    login = backend.login(environment_of(app, backend), app.user_home)
    info = BackendInfo(
        name=backend.NAME,
        title=backend.TITLE,
        available=False,
        enabled=settings.enabled,
        login=login.state,
        login_detail=login.how,
        models=list(backend.MODELS),
        default_model=settings.model,
        approval_modes=list(can.approval_modes),
        sandbox_modes=list(can.sandbox_modes),
        options=sorted(can.options),
        extra_flags=list(can.extra_flags),
        streams_text=can.streams_text,
        notes=dict(can.notes),
        hint=login.fix or None,
    )
    try:
        found = app.installation(backend)
    except ClinvkError as error:
        info.hint = error.failure.hint
        return info
    info.available, info.path, info.found_by = True, str(found.path), found.found_by
    info.version, why = await _version(app, backend, found)
    info.hint = why or info.hint
    return info


def environment_of(app: App, backend: Backend) -> dict[str, str]:
    """The variables that the backend's processes get."""
    return child_environment(app, backend, run_id="version")


async def version(app: App, backend: Backend, found: Installation) -> str | None:
    """What `--version` says, asked once per program file."""
    return (await _version(app, backend, found))[0]


async def _version(app: App, backend: Backend, found: Installation) -> tuple[str | None, str]:
    """The version, or why it is not known."""
    cache = app.home / "cache" / "versions.json"
    stamp = _stamp(found)
    known = _read(cache)
    if stamp in known:
        return known[stamp], ""
    told, why = await _ask(app, backend, found)
    if told is not None:
        try:
            private_folder(cache.parent)
            write_whole(cache, json.dumps({**_read(cache), stamp: told}).encode())
        except ClinvkError:
            pass  # a cache: what cannot be kept is asked again
    return told, why


def _stamp(found: Installation) -> str:
    stat = found.path.stat()
    return f"{found.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"


def _read(cache: Path) -> dict[str, str]:
    try:
        raw = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}  # pyright: ignore[reportUnknownVariableType]


async def _ask(app: App, backend: Backend, found: Installation) -> tuple[str | None, str]:
    with TemporaryDirectory(prefix="clinvk-") as scratch:
        folder = Path(scratch)
        argv, env = [*found.program, "--version"], environment_of(app, backend)
        told = await said(app, argv, env, folder=folder, cwd=folder, timeout_secs=VERSION_SECS)
    ending, stdout = told.ending, told.stdout.decode("utf-8", "replace")
    parsed = backend.parse_version(stdout) if ending.reason == "exited" and ending.exit_code == 0 else None
    if parsed is not None:
        return parsed, ""
    match ending.reason:
        case "timeout":
            why = f"did not answer --version within {VERSION_SECS:g} s, and was stopped"
        case "exited" if not ending.exit_code:
            why = "did not tell its version"
        case "exited":
            why = f"ended with exit code {ending.exit_code} when it was asked for its version"
        case _:
            why = f"could not be asked for its version: {ending.message or ending.reason}"
    return None, f"{found.path} {why}; is it {backend.TITLE}?"
