"""What `clinvk doctor` looks at. Nothing here asks a model or changes anything but caches."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from clinvk import __version__
from clinvk.awaiting import awaited
from clinvk.backends import registry
from clinvk.backends.base import Backend
from clinvk.cli.call import Call
from clinvk.cli.config import problems
from clinvk.config import cascade
from clinvk.config.cascade import Loaded
from clinvk.config.settings import Config, OutputConfig
from clinvk.errors import ClinvkError
from clinvk.executor import environment
from clinvk.executor.finished import browsing
from clinvk.files import obstacle
from clinvk.response import BackendInfo
from clinvk.sessions.locks import Locks
from clinvk.tools import probe
from clinvk.tools.app import App, opened
from clinvk.tools.backends import describe

LOW_BYTES = 1 << 30  # a run may write as much (limits.max_output_bytes)
FULL_BYTES = 64 << 20

Status = Literal["ready", "storage", "no_backend", "config"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what to do where it is not well."""

    name: str
    state: Literal["ok", "info", "warning", "error"]
    detail: str
    fix: str = ""


@dataclass(slots=True)
class Report:
    """All checks under one configuration; `usable` are the agent CLIs that a prompt can be sent to."""

    loaded: Loaded
    checks: list[Check] = field(default_factory=list[Check])
    usable: list[str] = field(default_factory=list[str])

    @property
    def status(self) -> Status:
        """The worst that was found."""
        wrong = {check.name for check in self.checks if check.state == "error"}
        if "config" in wrong:
            return "config"
        if "storage" in wrong:
            return "storage"
        return "ready" if self.usable else "no_backend"

    @property
    def summary(self) -> str:
        """One line for people."""
        match self.status:
            case "ready":
                return f"ready: {', '.join(self.usable)}. Try: clinvk demo"
            case "no_backend":
                return "no agent CLI is ready: install one and log in (see above); clinvk demo --offline works already"
            case "storage":
                return "sessions and runs cannot be stored: see above"
            case "config":
                return "the configuration cannot be used: see above"

    def to_json(self) -> dict[str, Any]:
        """The report as data."""
        return {"status": self.status, "usable": self.usable, "checks": [asdict(check) for check in self.checks]}


def made(call: Call) -> Report:
    """Look at everything."""
    loaded = _usable_config(call)
    stored = _storage(loaded.home)
    report = Report(loaded, [_program(call), *_config(call), stored])
    if stored.state != "error":
        awaited(_running, loaded, call, report)
    return report


def _program(call: Call) -> Check:
    path = Path(sys.argv[0]).absolute()
    detail = f"{__version__}, Python {platform.python_version()}, {platform.system()}; started as {path}"
    depth = environment.depth(call.environ)
    if depth:
        detail += f"; inside an agent that clinvk started, {depth} deep"
    return Check("clinvk", "ok", detail)


def _config(call: Call) -> Iterator[Check]:
    path = cascade.config_file(call.environ, call.config_path)
    found = problems(call)
    for problem in found:
        fix = f"{problem.fix}; `clinvk config lint` checks again" if problem.severity == "error" else ""
        yield Check("config", problem.severity, str(problem), fix)
    if not found:
        yield Check("config", "ok", str(path) if path.exists() else f"defaults (no {path})")


def _usable_config(call: Call) -> Loaded:
    """The configuration, or the defaults where it cannot be used, so that the rest can be looked at."""
    flags = {"output.format": call.args.output_format}
    try:
        return cascade.load(call.environ, known_backends=registry.BACKENDS, flags=flags, path=call.config_path)
    except ClinvkError:
        path = cascade.config_file(call.environ, call.config_path)
        output = OutputConfig(format=call.args.output_format or "text")
        return Loaded(Config(output=output), {}, cascade.home_directory(call.environ), path)


def _storage(home: Path) -> Check:
    unusable = _unusable(home)
    if unusable is not None:
        return Check("storage", "error", *unusable)
    free = shutil.disk_usage(home).free
    detail = f"{home}, {free / 2**30:.1f} GiB free"
    if free < FULL_BYTES:
        return Check("storage", "error", detail, "free some space there, or point CLINVK_HOME elsewhere")
    if free < LOW_BYTES:
        return Check("storage", "warning", detail, "free some space there: long runs may not fit")
    if home.stat().st_mode & 0o077:
        return Check("storage", "warning", f"{detail}; others on this machine may read it", f"chmod 700 {home}")
    return Check("storage", "ok", detail)


def _unusable(home: Path) -> tuple[str, str] | None:
    """What keeps sessions and runs from being stored, and what to do about it."""
    fix = "point CLINVK_HOME at a folder of your own, or correct its owner and mode"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        Locks(home).check()
    except OSError as error:
        reason, known = obstacle(home, error)
        return f"{home}: {reason}", known or fix
    except ClinvkError as error:
        return error.failure.message, error.failure.hint or fix
    return None if os.access(home, os.W_OK | os.X_OK) else (f"{home} cannot be written", fix)


async def _running(loaded: Loaded, call: Call, report: Report) -> None:
    async with opened(loaded, call.environ) as app:
        checks: dict[str, list[Check]] = {}

        async def look(name: str, backend: Backend) -> None:
            info = await describe(app, backend)
            checks[name] = await _backend(app, backend, info)
            fails = any(check.state == "error" for check in checks[name])
            if name != registry.BUILT_IN and _is_usable(info) and not fails:
                report.usable.append(name)

        async with anyio.create_task_group() as tasks:
            for name, backend in registry.BACKENDS.items():
                tasks.start_soon(look, name, backend)
        report.usable.sort(key=list(registry.BACKENDS).index)
        report.checks += [check for name in registry.BACKENDS for check in checks[name]]
        report.checks += _runs(app)


def _is_usable(info: BackendInfo) -> bool:
    return info.available and info.enabled and info.version is not None and info.login != "logged_out"


async def _backend(app: App, backend: Backend, info: BackendInfo) -> list[Check]:
    name = backend.NAME
    if not info.enabled:
        return [Check(name, "info", "switched off in the configuration")]
    if not info.available or info.path is None:
        return [Check(name, "info", f"{backend.TITLE} is not installed", info.hint or backend.INSTALL_HINT)]
    where = f"{info.path} ({info.found_by})"
    found = app.installation(backend)
    node = await probe.node_version(app, found)
    if node is not None and node[1] < probe.OLDEST_NODE:
        detail = f"{where} needs Node {probe.OLDEST_NODE} or newer; here it is {node[0]}"
        return [Check(name, "error", detail, "install a newer Node, or put its folder first on PATH")]
    if info.version is None:
        fix = f"run {found.path} --version by hand; to install: {backend.INSTALL_HINT}"
        return [Check(name, "error", info.hint or where, fix)]
    login = f"{info.login.replace('_', ' ')}: {info.login_detail}"
    detail = f"{backend.TITLE} {info.version} at {where}; {login}"
    if info.login == "logged_out":
        checks = [Check(name, "warning", detail, info.hint or "")]
    else:
        checks = [Check(name, "ok", detail, "" if info.login == "logged_in" else info.hint or "")]
    for failure in await probe.rejected(app, backend, found):
        checks.append(Check(name, "warning", failure.message, failure.hint or ""))
    return checks


def _runs(app: App) -> Iterator[Check]:
    """What goes on, what nobody fetched, and processes that outlived their run."""
    counts = {"running": 0, "cut off": 0, "unread": 0}
    damaged: list[str] = []
    try:
        with browsing(app.runs) as run_ids:
            for run_id in run_ids:
                try:
                    state = app.runs.state(run_id)
                except ClinvkError as error:
                    damaged.append(error.failure.message)
                    continue
                kind = {"running": "running", "unsettled": "cut off"}.get(state.status, "unread")
                if state.record.parent_id is None and (kind != "unread" or state.unread):
                    counts[kind] += 1
    except ClinvkError as error:
        yield Check("runs", "error", error.failure.message, error.failure.hint or "")
        return
    yield from (Check("runs", "warning", each, "remove that folder if you do not need it") for each in damaged)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    yield Check("runs", "info" if told else "ok", told or "nothing is running or waiting to be read")
    strays = _strays(app)
    if strays:
        pids = " ".join(map(str, strays))
        yield Check("runs", "warning", f"processes of runs that have ended: {pids}", f"look at them, then: kill {pids}")


def _strays(app: App) -> list[int]:
    """Processes marked as part of a run under this home that nobody drives; only Linux tells."""
    home = f"{environment.HOME}={app.home}"
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        run_ids = [item.partition("=")[2] for item in variables if item.startswith(f"{environment.RUN}=")]
        if run_ids and home in variables and app.runs.path(run_ids[0]).is_dir() and not app.runs.is_driven(run_ids[0]):
            found.append(int(folder.name))
    return sorted(found)
