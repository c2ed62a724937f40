"""What every operation works with: configuration, stores and the executor of one process."""

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clinvk.backends import locate, registry
from clinvk.backends.base import Backend, Installation
from clinvk.config.cascade import Loaded
from clinvk.config.settings import Config
from clinvk.errors import ClinvkError
from clinvk.executor.runs import RunStore
from clinvk.files import private_folder
from clinvk.sessions.store import SessionStore
from clinvk.tools.budget import Ledger
from clinvk.tools.claims import Requests

if TYPE_CHECKING:  # who only reads what is stored must not pay for it, nor for an event loop
    from clinvk.executor.executor import Executor
    from clinvk.executor.process import Keeper


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One process's clinvk."""

    loaded: Loaded
    environ: Mapping[str, str]
    user_home: Path
    runs: RunStore
    sessions: SessionStore
    made_executor: Callable[[], "Executor"]
    requests: Requests
    ledger: Ledger
    _found: dict[str, Installation] = field(default_factory=dict[str, Installation])
    _search_path: list[str] = field(default_factory=list[str])

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.loaded.config

    @property
    def executor(self) -> "Executor":
        """What drives the runs of this process."""
        return self.made_executor()

    @property
    def home(self) -> Path:
        """The folder of sessions and runs."""
        return self.loaded.home

    def installation(self, backend: Backend) -> Installation:
        """Where the backend is. Raises ClinvkError(backend_unavailable) when it is disabled or not installed."""
        settings = self.config.backend(backend.NAME)
        if not settings.enabled:
            key = f"backends.{backend.NAME}.enabled"
            raise ClinvkError(
                "backend_unavailable",
                f"backend {backend.NAME!r} is switched off",
                hint=f"set {key} to true; it is false by {self.loaded.sources.get(key, self.loaded.path)}",
                backend=backend.NAME,
            )
        found = self._found.get(backend.NAME)
        if found is None or not found.path.exists():  # an update may have moved it
            found = locate.locate(backend, {**self.environ, **settings.env}, self.user_home, settings.command)
        if found is None:
            raise ClinvkError(
                "backend_unavailable",
                f"backend {backend.NAME!r} is not installed: no {backend.EXECUTABLE!r} on PATH or in the known places",
                hint=backend.INSTALL_HINT,
                backend=backend.NAME,
            )
        self._found[backend.NAME] = found
        return found

    def search_path(self) -> str:
        """PATH for children; the folders are looked for once, as it is needed for every run."""
        if not self._search_path:
            self._search_path.append(locate.search_path(self.environ, self.user_home))
        return self._search_path[0]

    def available(self) -> list[str]:
        """The agent CLIs that can be used; the built-in stand-in is none."""
        names: list[str] = []
        for name, backend in registry.BACKENDS.items():
            with suppress(ClinvkError):
                self.installation(backend)
                names.append(name)
        return [name for name in names if name != registry.BUILT_IN]

    def default_backend(self) -> str:
        """The backend for a call that names none: the configured one, else the first that is installed.

        Raises ClinvkError(backend_unavailable) where there is none.
        """
        return self.config.default_backend or self.default_backends()[0]

    def default_backends(self) -> list[str]:
        """The backends for a comparison that names none: all that are installed; the stand-in only where it was chosen.

        Raises ClinvkError(backend_unavailable) where there is none.
        """
        agents = self.available()
        if not agents and self.config.default_backend == registry.BUILT_IN:
            return [registry.BUILT_IN]
        if agents:
            return agents
        hints = "; ".join(b.INSTALL_HINT for n, b in registry.BACKENDS.items() if n != registry.BUILT_IN)
        raise ClinvkError(
            "backend_unavailable",
            "no agent CLI is installed and no backend was named",
            hint=f"install one ({hints}), or name backend {registry.BUILT_IN!r} to try clinvk without a model",
        )


def new_id() -> str:
    """A fresh id of a run or a session: 16 hex digits, unguessable, unique in its first few already."""
    return secrets.token_hex(8)


def user_home(environ: Mapping[str, str]) -> Path:
    """The user's home, also where HOME is not set."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


@asynccontextmanager
async def opened(loaded: Loaded, environ: Mapping[str, str]) -> AsyncGenerator[App]:
    """clinvk, ready to run prompts; at the end, whatever somebody still waits for is stopped."""
    from clinvk.executor.process import keeping

    with keeping() as keeper:
        app = _made(loaded, environ, lambda: keeper)
        async with app.executor.serving():
            yield app


def at_rest(loaded: Loaded, environ: Mapping[str, str]) -> App:
    """clinvk to look at and to edit what is stored; it starts no process and can run no prompt."""
    return _made(loaded, environ, _idle)


def _made(loaded: Loaded, environ: Mapping[str, str], keeper: "Callable[[], Keeper]") -> App:
    private_folder(loaded.home)
    runs = RunStore(loaded.home)

    @cache
    def executor() -> "Executor":
        from clinvk.executor.admission import Admission
        from clinvk.executor.executor import Executor

        limits = loaded.config.limits
        total, each = limits.max_concurrent, limits.max_per_backend
        return Executor(runs, keeper(), Admission(total=total, per_backend=each, queue=limits.queue_length))

    return App(
        loaded=loaded,
        environ=environ,
        user_home=user_home(environ),
        runs=runs,
        sessions=SessionStore(loaded.home),
        made_executor=executor,
        requests=Requests(loaded.home),
        ledger=Ledger(loaded.home),
    )


def _idle() -> "Keeper":
    from clinvk.executor.process import Keeper

    return Keeper()
