"""The server's side of the keeper: one supervised command as a scope, and the keeper itself as another."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from clinvk.errors import ClinvkError
from clinvk.events import Ending
from clinvk.executor import keeper, proctree

STOP_SECS = 15.0  # grace of the supervisor, its sweep and a busy machine; then its socket is closed
LEAVE_SECS = 0.05  # for a keeper without detached runs to end; it takes a few milliseconds
FOLLOW_SECS = 0.1  # how often the spool of a run adopted from another process is looked at
RESTART_SECS = 1.0  # until the keeper is started again, where the system refused it
READ_TRIES = 3  # of a state that is being replaced in place just now


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one process: seconds and bytes; `stall_secs` 0 means that silence is allowed."""

    timeout_secs: float
    stall_secs: float
    max_output_bytes: int
    grace_secs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One command ready to start: everything resolved, `stdin` a file."""

    folder: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    stdin: Path
    limits: Limits
    detached: bool = False


class Supervised:
    """A running command as its server sees it."""

    def __init__(self, control: socket.socket, folder: Path) -> None:
        self._control = control
        self._folder = folder
        self._buffer = b""
        self.ending: Ending | None = None

    async def news(self) -> None:
        """Wait until there is new output or the command has ended (then `ending` is set)."""
        while self.ending is None:
            await anyio.wait_readable(self._control)
            if self._receive():
                return

    def _receive(self) -> bool:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.ending = read_ending(self._folder) or (
                _cut_off(self._folder) if started(self._folder) else _never_begun()
            )
            return True
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.startswith(b"X "):
                self.ending = _ending(json.loads(line[2:]), self._folder)
        return any(line[:1] in (b"P", b"X") for line in lines)

    def cancel(self) -> None:
        """Ask for the end of the command and of all that it started; returns at once."""
        self._order(b"C")

    def excuse(self) -> None:
        """The command is silent because it waits for a person: count its stall limit from now."""
        self._order(b"A")

    def detach(self) -> None:
        """Let the command go on when this process goes away."""
        self._order(b"D")

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(order)


class Adopted:
    """A command that another process started and that is still supervised."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._size = 0
        self.ending: Ending | None = None

    async def news(self) -> None:
        """Wait until there is new output or the command has ended."""
        while self.ending is None:
            alive = supervisor_alive(self._folder)  # before the ending is read, so that none is missed
            self.ending = read_ending(self._folder)
            if self.ending is None and not alive:
                self.ending = _cut_off(self._folder)
            size = _size(self._folder / "stdout")
            if size != self._size or self.ending is not None:
                self._size = size
                return
            await anyio.sleep(FOLLOW_SECS)

    def cancel(self) -> None:
        """Ask its supervisor to stop it."""
        stop(self._folder)

    def excuse(self) -> None:
        """Nothing to do: only the process that started a command can answer its questions."""

    def detach(self) -> None:
        """Nothing to do: it already outlived the process that started it."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _state(folder: Path) -> dict[str, Any]:
    for _ in range(READ_TRIES):
        try:
            state = json.loads((folder / "keeper.json").read_bytes() or b"{}")
        except OSError:
            break
        except ValueError:
            continue
        return state if isinstance(state, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return {}


def _ending(raw: dict[str, Any], folder: Path) -> Ending:
    return Ending(stderr_tail=_tail(folder / "stderr"), **raw)


def _tail(path: Path, size: int = 16_384) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def read_ending(folder: Path) -> Ending | None:
    """How the run's command ended, from disk; None while it runs or when its supervisor was killed."""
    ending = _state(folder).get("ending")
    return None if ending is None else _ending(ending, folder)


def started_at(folder: Path) -> float | None:
    """When the command was started (Unix time), None when it never was."""
    return _state(folder).get("started_at")


def started(folder: Path) -> bool:
    """Whether the run ever got as far as a supervisor."""
    return (folder / "keeper.json").exists()


def last_sign(folder: Path) -> float | None:
    """When the command last did something that was seen (Unix time): its output, or its start; None before that."""
    if started_at(folder) is None:
        return None
    times: list[float] = []
    for name in ("stdout", "stderr", "keeper.json"):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=None)


def lasted_ms(folder: Path) -> int:
    """How long a command lasted whose end nobody wrote down: from its start to the last sign of it."""
    began, last = started_at(folder), last_sign(folder)
    return 0 if began is None or last is None else max(0, round((last - began) * 1000))


def _cut_off(folder: Path) -> Ending:
    """The end of a run whose supervisor was killed."""
    return Ending(reason="interrupted", message="the run's keeper process was killed", duration_ms=lasted_ms(folder))


def _never_begun() -> Ending:
    """The end of a run that never got a supervisor."""
    return Ending(reason="spawn_failed", message="the keeper process could not take it: too many files are open there")


def _supervisor(folder: Path) -> int | None:
    """The pid of the living supervisor of a run; a recycled pid does not count."""
    supervisor = _state(folder).get("supervisor")
    if not supervisor or proctree.start_time(supervisor["pid"]) != supervisor["start"]:
        return None
    return int(supervisor["pid"])


def supervisor_alive(folder: Path) -> bool:
    """Whether the run's supervisor lives."""
    return _supervisor(folder) is not None


def stop(folder: Path) -> bool:
    """Tell the run's supervisor, whoever started it, to end the run; False when there is none."""
    pid = _supervisor(folder)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return True


@contextmanager
def _starting(what: str) -> Generator[None]:
    """Map an OSError of the block to `spawn_failed: WHAT: REASON`."""
    try:
        yield
    except OSError as error:
        few = error.errno in (errno.EMFILE, errno.ENFILE)
        limit = "allow more open files (ulimit -n)" if few else "allow more processes or memory"
        hint = f"try again when less is running, {limit}, or lower limits.max_concurrent"
        raise ClinvkError("spawn_failed", f"{what}: {error.strerror or error}", hint=hint) from error


class Keeper:
    """The keeper process of one server; started again if something killed it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._heirs: dict[str, tuple[Mapping[str, Any], int]] = {}

    def start(self) -> None:
        """Start the keeper now (about 20 ms), so that the first run need not wait for it.

        Raises: ClinvkError(spawn_failed).
        """
        with _starting("the keeper process cannot be started"), contextlib.ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it may outlive us: who reads our stderr to its end must not wait for it
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            for request, lock in self._heirs.values():
                keeper.send(ours, request, [lock])
            stack.pop_all()
        self._socket = ours

    async def kept_alive(self) -> None:
        """Start the keeper again when something killed it, until cancelled; its supervisors live on without it."""
        while True:
            if self._socket is None:
                try:
                    self.start()
                except ClinvkError:
                    await anyio.sleep(RESTART_SECS)
                    continue
            assert self._socket is not None
            try:
                await anyio.wait_readable(self._socket)  # a keeper never sends: this is its end
            except anyio.ClosedResourceError:
                continue  # whoever wanted to send something noticed first
            self._lost()

    def _lost(self) -> None:
        if self._socket is not None:
            anyio.notify_closing(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()  # it is dying: its socket closed

    def close(self) -> None:
        """Let the keeper go: attached runs are stopped, detached ones stay, heirs are started."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVE_SECS)
            # It outlives us where runs go on; Popen would warn of that.
            self._process.returncode = self._process.returncode or 0

    def _send(self, request: Mapping[str, Any], fds: Sequence[int]) -> None:
        for _ in range(2):
            if self._socket is None:
                self.start()
            assert self._socket is not None
            try:
                with _starting("the keeper process cannot be reached"):
                    keeper.send(self._socket, request, fds)
            except ClinvkError as error:
                if not isinstance(error.__cause__, BrokenPipeError | ConnectionResetError):
                    raise
                self._lost()
            else:
                return
        raise ClinvkError("spawn_failed", "the keeper process cannot be reached", hint="try again")

    @asynccontextmanager
    async def running(self, launch: Launch, locks: Sequence[int] = ()) -> AsyncGenerator[Supervised]:
        """A command under supervision; leaving the scope early ends it, unless it was detached.

        `locks` are open descriptors that stay open until the last process of the run is dead.
        """
        with _starting("no connection to the keeper process can be made"):
            ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._send(
                    {
                        "do": "spawn",
                        "folder": str(launch.folder),
                        "argv": list(launch.argv),
                        "env": dict(launch.env),
                        "cwd": str(launch.cwd),
                        "stdin": str(launch.stdin),
                        "detached": launch.detached,
                        "timeout_secs": launch.limits.timeout_secs,
                        "stall_secs": launch.limits.stall_secs,
                        "max_output_bytes": launch.limits.max_output_bytes,
                        "grace_secs": launch.limits.grace_secs,
                    },
                    [theirs.fileno(), *locks],
                )
            ours.setblocking(False)
            yield Supervised(ours, launch.folder)

    def set_heir(self, run_id: str, argv: Sequence[str], log: Path, lock: int) -> None:
        """Have a run driven on when this process is gone: `argv` is started, once for all such runs.

        It gets `--run ID:FD` for each of them, FD being the run's lock, which is never let go in between.
        """
        request = {"do": "heir", "key": run_id, "argv": list(argv), "env": dict(os.environ), "log": str(log)}
        self._heirs[run_id] = (request, lock)  # first, for a keeper that has to be started again meanwhile
        self._send(request, [lock])

    def disown(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self._heirs.pop(run_id, None)
        self._send({"do": "disown", "key": run_id}, ())


@contextmanager
def keeping() -> Generator[Keeper]:
    """A keeper for the time of the scope."""
    kept = Keeper()
    kept.start()
    try:
        yield kept
    finally:
        kept.close()
