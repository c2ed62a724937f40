"""One test's clinvk: a fresh home, fake CLIs on PATH, and the means to meet an agent at a point of its script.

Waiting is never by the clock: a FIFO is a rendezvous with an agent, a pidfd is readable when a process has ended.
"""

import json
import os
import signal
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from clinvk.backends import registry
from clinvk.config.cascade import Loaded, load
from clinvk.executor.live import Listener
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Caller
from fakes import agent

PATIENCE_SECS = 20.0  # of every wait in the tests: far more than anything takes, also on a busy machine
GRACE_SECS = 0.1


@dataclass(frozen=True, slots=True)
class Fifo:
    """A meeting point with an agent."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    async def reached(self) -> dict[str, Any]:
        """Wait for an agent's `reach` step; what it tells."""
        with anyio.fail_after(PATIENCE_SECS):
            text = await anyio.to_thread.run_sync(self.path.read_text, "utf-8", abandon_on_cancel=True)
        told: dict[str, Any] = json.loads(text)
        return told

    async def release(self) -> None:
        """Let an agent's `wait` step go on."""
        with anyio.fail_after(PATIENCE_SECS):
            await anyio.to_thread.run_sync(self.path.write_bytes, b"", abandon_on_cancel=True)


@dataclass(slots=True)
class Processes:
    """Processes that must end; held by pidfd, so that a recycled pid is never taken for one of them."""

    fds: dict[str, int] = field(default_factory=dict[str, int])

    def watch(self, name: str, pid: int) -> None:
        """Remember a process that is alive now."""
        self.fds[f"{name} {pid}"] = os.pidfd_open(pid)

    def watch_agent(self, told: dict[str, Any]) -> None:
        """Remember an agent, from what it told, and all that it spawned."""
        self.watch("agent", told["pid"])
        for kind, pid in told["spawned"].items():
            if kind != "hydra":
                self.watch(kind, pid)

    async def ended(self) -> None:
        """Wait until all of them have ended."""
        for name, fd in list(self.fds.items()):
            try:
                with anyio.fail_after(PATIENCE_SECS):
                    await anyio.wait_readable(fd)
            except TimeoutError:
                raise AssertionError(f"{name} survived") from None
            os.close(self.fds.pop(name))

    def kill(self) -> None:
        """Clean up after a failed test."""
        for fd in self.fds.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        self.fds.clear()


@dataclass(frozen=True, slots=True)
class World:
    """What one test has to itself."""

    root: Path
    home: Path
    bin: Path
    workdir: Path
    environ: dict[str, str]
    processes: Processes = field(default_factory=Processes)

    def fifo(self, name: str) -> Fifo:
        """A new meeting point."""
        path = self.root / f"{name}.fifo"
        os.mkfifo(path)
        return Fifo(path)

    def loaded(self, **flags: object) -> Loaded:
        """The configuration; `limits__timeout_secs=1` sets limits.timeout_secs."""
        dotted = {"limits.kill_grace_secs": GRACE_SECS} | {
            name.replace("__", "."): value for name, value in flags.items()
        }
        return load(self.environ, known_backends=registry.BACKENDS, flags=dotted)

    @asynccontextmanager
    async def app(self, **flags: object) -> AsyncGenerator[App]:
        """clinvk in this process."""
        async with opened(self.loaded(**flags), self.environ) as app:
            yield app

    def caller(self, listener: Listener | None = None, client: str = "test") -> Caller:
        """Somebody who calls from the workdir."""
        return Caller(client=client, cwd=self.workdir, listener=listener)

    def calls(self, name: str = "claude") -> list[dict[str, Any]]:
        """What a fake CLI was called with."""
        return agent.calls(self.bin, name)


def create(root: Path, user_home: Path, backends: Iterable[str] = ("claude", "codex", "gemini")) -> World:
    """A world under `root`."""
    root.mkdir()
    folder = agent.install(root / "bin", *backends)
    workdir = root / "work"
    workdir.mkdir()
    home = root / "clinvk"
    environ = {
        "HOME": str(user_home),
        "PATH": f"{folder}:/usr/bin:/bin",
        "CLINVK_HOME": str(home),
        "LANG": "C.UTF-8",
    }
    return World(root, home, folder, workdir.resolve(), environ)
