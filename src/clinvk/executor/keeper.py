"""The small process that owns the children of all runs: the only code in clinvk that starts one.

Run as `python -I -S keeper.py FD`, standard library only. FD is a Unix stream socket to its server. For each request it
forks a *supervisor*, which makes itself a child subreaper (Linux), starts one command in a session of its own, copies
what the command writes into the run's folder, enforces deadline, stall limit and output limit, and ends only when no
descendant is alive.

Promises, also when the server is killed with SIGKILL:
- a supervised run that is not detached is stopped, with every process that it started, daemons included;
- a detached run goes on within its deadline, and how it ended is on disk (`keeper.json` in the run's folder);
- registered heirs are started, holding the locks that were handed over for them;
- when a supervisor itself is killed, its orphans come back to the keeper (a subreaper too) and are killed.

Wire, server to keeper: 4-byte big-endian length + JSON, with descriptors attached to the length. Server to
supervisor: `D` detach, `C` cancel.
Supervisor to server, lines: `S <pid>` started, `P` new output (coalesced), `X <json>` the ending.
"""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

STATE_BYTES = 4096  # one page, padded: the ending is written in place, so a full disk cannot refuse it
PIPE_BYTES = 1 << 20
STDERR_LIMIT = 16 << 20  # bytes kept of stderr; the rest is read and dropped
DRAIN_SECS = 1.0  # how long to wait for the end of file once no descendant is alive
UNKILLABLE_SECS = 10.0  # a process that survives SIGKILL this long is stuck in the kernel; say so and go on
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
F_SETPIPE_SZ = 1031  # fcntl(2)
LINUX = sys.platform == "linux"
SPARES = 2  # supervisors forked in advance
SPAWN = b'{"do": "spawn"'


_prctl = ctypes.CDLL(None, use_errno=True).prctl if LINUX else None


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process; False where the system has no such thing."""
    return _prctl is not None and _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def start_time(pid: int) -> int | None:
    """Start of `pid` in clock ticks since boot (proc(5) stat field 22), None when it is gone.

    Where there is no /proc the time is unknown and 0 stands for any living process.
    """
    if not LINUX:
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return 0
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib costs start-up time here
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _parents() -> dict[int, list[int]]:
    """Children by parent pid, from the process table (where /proc/.../children is missing)."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False).stdout
    children: dict[int, list[int]] = {}
    for row in table.splitlines():
        pid, parent = map(int, row.split())
        children.setdefault(parent, []).append(pid)
    return children


def _children(pid: int) -> list[int]:
    """Direct children of every thread of `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{thread}/children", "rb") as listing,  # noqa: PTH123
            ):
                found += map(int, listing.read().split())
    return found


HAS_CHILDREN_FILES = os.path.exists("/proc/self/task")  # noqa: PTH110


def descendants(root: int) -> list[int]:
    """Every living descendant of `root`, parents before their children."""
    table = None if HAS_CHILDREN_FILES else _parents()
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop()
        below = _children(pid) if table is None else table.get(pid, [])
        found += below
        queue += below
    return found


def kill_strays(run_id: str) -> None:
    """Kill what is left of a run whose supervisor and keeper were both killed: it still carries the run's id."""
    mark = f"CLINVK_RUN_ID={run_id}".encode()
    for name in os.listdir("/proc") if LINUX else ():  # noqa: PTH208
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:  # noqa: PTH123
            if mark in environ.read().split(b"\0"):
                os.kill(int(name), signal.SIGKILL)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Wakeup:
    """Signals as a readable descriptor, so that `poll` sees them; `terminated` remembers SIGTERM."""

    def __init__(self) -> None:
        self.fd, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if LINUX else os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._in, False)
        self.terminated = False
        signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _on_term(self, *_: object) -> None:
        self.terminated = True

    def clear(self) -> None:
        """Forget the wake-ups seen so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass

    def close(self) -> None:
        """Stop listening (in a forked child, before it sets up its own)."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._in)


class Spool:
    """Copies a pipe into a file, without looking at it."""

    def __init__(self, path: str, limit: int) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.limit = limit
        self.size = 0
        self.open = True
        self.failed: OSError | None = None
        os.set_blocking(self.read_fd, False)
        if LINUX:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.fcntl(self.read_fd, F_SETPIPE_SZ, PIPE_BYTES)

    def take(self) -> int:
        """Copy what is there; the number of bytes, 0 at the end of file or when nothing waits."""
        try:
            moved = self._move()
        except BlockingIOError:
            return 0
        except OSError as error:
            self.failed = error
            moved = len(os.read(self.read_fd, PIPE_BYTES))
        if moved == 0:
            self.open = False
        self.size += moved
        return moved

    def _move(self) -> int:
        if self.failed or self.size >= self.limit:
            return len(os.read(self.read_fd, PIPE_BYTES))
        if hasattr(os, "splice"):
            return os.splice(self.read_fd, self.file, PIPE_BYTES)
        data = os.read(self.read_fd, PIPE_BYTES)
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]
        return len(data)


class Supervisor:
    """Owns one command from its start until nothing of it is alive."""

    def __init__(self, request: dict[str, Any], control: socket.socket, wakeup: Wakeup) -> None:
        self.folder: str = request["folder"]
        self.request = request
        self.control: socket.socket | None = control
        self.detached: bool = request["detached"]
        self.grace: float = request["grace_secs"]
        self.reason = "exited"
        self.message = ""
        self.status: int | None = None
        self.pid = 0
        self.kill_at: float | None = None
        self.wakeup = wakeup
        self.begun = self.active = time.monotonic()
        self.state = os.open(f"{self.folder}/keeper.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.out = Spool(f"{self.folder}/stdout", request["max_output_bytes"])
        self.err = Spool(f"{self.folder}/stderr", STDERR_LIMIT)

    def run(self) -> None:
        """Start the command, see it through, and leave the ending on disk and on the socket."""
        try:
            self._start()
        except OSError as error:
            self.reason, self.message = "spawn_failed", f"{error.strerror}: {self.request['argv'][0]}"
        else:
            self._record(None)
            self._tell(f"S {os.getpid()}\n")
            self._watch()
            self._end_stragglers()
            self._drain()
        self._record(self._ending())
        if self.detached:
            for fd in (self.out.file, self.err.file, self.state):
                os.fsync(fd)
        self._tell(f"X {json.dumps(self._ending())}\n", patient=True)

    def _start(self) -> None:
        os.chdir(self.request["cwd"])
        stdin = os.open(self.request["stdin"], os.O_RDONLY | os.O_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, self.out.write_fd, 1),
            (os.POSIX_SPAWN_DUP2, self.err.write_fd, 2),
        ]
        argv: list[str] = self.request["argv"]
        self.pid = os.posix_spawn(
            argv[0],
            argv,
            self.request["env"],
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)],
        )
        os.chdir("/")
        for fd in (stdin, self.out.write_fd, self.err.write_fd):
            os.close(fd)

    def _watch(self) -> None:
        """Copy output until the command has exited, stopping it when a limit or the server says so."""
        poll = select.poll()
        poll.register(self.wakeup.fd, select.POLLIN)
        for spool in (self.out, self.err):
            poll.register(spool.read_fd, select.POLLIN)
        if self.control is not None:
            poll.register(self.control, select.POLLIN)
        while self.status is None:
            for fd, _ in poll.poll(self._patience_ms()):
                if fd == self.wakeup.fd:
                    self.wakeup.clear()
                elif self.control is not None and fd == self.control.fileno():
                    self._obey(poll)
                else:
                    spool = self.out if fd == self.out.read_fd else self.err
                    self._copy(spool)
                    if not spool.open:
                        poll.unregister(fd)
            if self.wakeup.terminated:
                self._stop("cancelled")
            self._enforce_limits()
            self._reap()

    def _patience_ms(self) -> float:
        limits: list[float] = [self.begun + self.request["timeout_secs"]]
        if self.request["stall_secs"]:
            limits.append(self.active + self.request["stall_secs"])
        if self.kill_at is not None:
            limits = [self.kill_at]
        return max(0.0, min(limits) - time.monotonic()) * 1000 + 1

    def _copy(self, spool: Spool) -> None:
        if spool.take():
            self.active = time.monotonic()
            if spool is self.out:
                self._tell("P\n")
        if spool.failed:
            self._stop("disk_full", f"could not save the output: {spool.failed.strerror}")
        elif spool is self.out and spool.size >= spool.limit:
            self._stop("output_limit", f"more than {spool.limit} bytes of output")

    def _obey(self, poll: select.poll) -> None:
        control = self.control
        assert control is not None
        try:
            order = control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            order = b""
        if b"D" in order:
            self.detached = True
        if b"C" in order:
            self._stop("cancelled")
        if not order:
            poll.unregister(control)
            self.control = None
            if not self.detached:
                self._stop("cancelled", "the server went away")

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        if self.kill_at is not None:
            if now >= self.kill_at:
                signal_all(descendants(os.getpid()), signal.SIGKILL)
                self.kill_at = now + 0.05  # again, for what was forked meanwhile
        elif now >= self.begun + self.request["timeout_secs"]:
            self._stop("timeout", f"no result within {self.request['timeout_secs']:g} s")
        elif self.request["stall_secs"] and now >= self.active + self.request["stall_secs"]:
            self._stop("stalled", f"no output for {self.request['stall_secs']:g} s")

    def _stop(self, reason: str, message: str = "") -> None:
        if self.kill_at is not None:
            return
        self.reason, self.message = reason, message
        self.kill_at = time.monotonic() + self.grace
        signal_all(descendants(os.getpid()), signal.SIGTERM)

    def _reap(self) -> bool:
        """Collect the dead; True while children are left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def _end_stragglers(self) -> None:
        """End what outlived the command: asked first, then killed until nothing is left."""
        if not self._reap():
            return
        signal_all(descendants(os.getpid()), signal.SIGTERM)
        kill_at = time.monotonic() + self.grace if self.kill_at is None else self.kill_at
        poll = select.poll()
        poll.register(self.wakeup.fd, select.POLLIN)
        while self._reap():
            wait = kill_at - time.monotonic()
            if wait < -UNKILLABLE_SECS:
                self.message = f"could not kill {descendants(os.getpid())}"
                return
            if wait <= 0:
                signal_all(descendants(os.getpid()), signal.SIGKILL)
                wait = 0.02
            poll.poll(wait * 1000 + 1)
            self.wakeup.clear()
            self._take_all()

    def _take_all(self) -> None:
        for spool in (self.out, self.err):
            while spool.open and spool.take():
                pass

    def _drain(self) -> None:
        """Read what is left in the pipes; all writers are dead, so their end comes at once."""
        until = time.monotonic() + DRAIN_SECS
        for spool in (self.out, self.err):
            poll = select.poll()
            poll.register(spool.read_fd, select.POLLIN)
            while spool.open and time.monotonic() < until:
                poll.poll(50)
                spool.take()
            if spool.failed and self.reason == "exited":
                self.reason = "disk_full"
                self.message = f"could not save the output: {spool.failed.strerror}"

    def _ending(self) -> dict[str, Any]:
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        return {
            "reason": self.reason,
            "exit_code": code if code is None or code >= 0 else 128 - code,
            "message": self.message,
            "duration_ms": round((time.monotonic() - self.begun) * 1000),
        }

    def _record(self, ending: dict[str, Any] | None) -> None:
        state = {
            "supervisor": {"pid": os.getpid(), "start": start_time(os.getpid())},
            "child": self.pid,
            "started_at": time.time() - (time.monotonic() - self.begun),
            "ending": ending,
        }
        os.pwrite(self.state, json.dumps(state).encode().ljust(STATE_BYTES)[:STATE_BYTES], 0)

    def _tell(self, line: str, *, patient: bool = False) -> None:
        if self.control is None:
            return
        self.control.setblocking(patient)
        self.control.settimeout(5.0 if patient else 0.0)
        with contextlib.suppress(OSError):  # full: the server has news waiting anyway; gone: seen by poll
            self.control.sendall(line.encode())


class Keeper:
    """Forks a supervisor per request and outlives the server until the last of them has ended."""

    def __init__(self, server: socket.socket) -> None:
        self.server: socket.socket | None = server
        self.wakeup = Wakeup()
        self.supervisors: set[int] = set()
        self.spares: list[socket.socket] = []
        self.heirs: dict[str, tuple[dict[str, Any], list[int]]] = {}
        self.heir_pids: set[int] = set()
        become_subreaper()

    def run(self) -> None:
        """Serve until the server is gone and every supervisor has ended."""
        poll = select.poll()
        poll.register(self.wakeup.fd, select.POLLIN)
        assert self.server is not None
        poll.register(self.server, select.POLLIN)
        while self.server is not None or self.supervisors:
            for fd, _ in poll.poll(1000 if self.server is None else None):
                if fd == self.wakeup.fd:
                    self.wakeup.clear()
                elif not self._serve():
                    poll.unregister(fd)
                    self._let_go()
            self._reap()
            if self.server is not None:
                self._keep_spares()

    def _serve(self) -> bool:
        assert self.server is not None
        received = _receive(self.server)
        if received is None:
            return False
        body, fds = received
        if body.startswith(SPAWN):
            self._supervise(body, fds)
            for fd in fds:
                os.close(fd)
            return True
        request: dict[str, Any] = json.loads(body)
        if request["do"] == "heir":
            self.heirs[request["key"]] = (request, fds)
        else:
            for fd in self.heirs.pop(request["key"], ({}, list[int]()))[1]:
                os.close(fd)
        return True

    def _keep_spares(self) -> None:
        """Have supervisors forked before they are needed: a fork costs more than all else of a short run."""
        while len(self.spares) < SPARES:
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._become_supervisor(theirs)
            theirs.close()
            self.supervisors.add(pid)
            self.spares.append(ours)

    def _supervise(self, body: bytes, fds: list[int]) -> None:
        """Give a request to a spare; one that was killed meanwhile is passed over."""
        while True:
            self._keep_spares()
            with self.spares.pop(0) as spare, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _send(spare, body, fds)
                return

    def _become_supervisor(self, keeper: socket.socket) -> NoReturn:
        """In a forked child: wait for the one request of its life, and serve it."""
        code = 1
        try:
            assert self.server is not None
            self.server.close()
            self.wakeup.close()
            for spare in self.spares:
                spare.close()
            for _, kept in self.heirs.values():
                for fd in kept:
                    os.close(fd)
            wakeup = Wakeup()
            become_subreaper()
            received = _receive(keeper)
            keeper.close()
            if received is not None:
                body, fds = received
                # fds[1:] are locks: holding them open until this process ends is their whole purpose
                Supervisor(json.loads(body), socket.socket(fileno=fds[0]), wakeup).run()
            code = 0
        finally:
            os._exit(code)

    def _let_go(self) -> None:
        """The server is gone: nothing new will come, and somebody else must drive what it handed out."""
        self.server = None
        for spare in self.spares:
            spare.close()
        self.spares.clear()
        self._start_heirs()

    def _start_heirs(self) -> None:
        for request, fds in self.heirs.values():
            for fd in fds:
                os.set_inheritable(fd, True)
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            argv = [part.replace("{fds}", ",".join(map(str, fds))) for part in request["argv"]]
            with contextlib.suppress(OSError):
                self.heir_pids.add(
                    os.posix_spawn(
                        argv[0],
                        argv,
                        request["env"],
                        file_actions=[
                            (os.POSIX_SPAWN_DUP2, null, 0),
                            (os.POSIX_SPAWN_DUP2, log, 1),
                            (os.POSIX_SPAWN_DUP2, log, 2),
                        ],
                        setsid=True,
                    )
                )
            for fd in (*fds, log, null):
                os.close(fd)
        self.heirs.clear()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.heir_pids.discard(pid)
            if pid in self.supervisors:
                self.supervisors.discard(pid)
                if status != 0:
                    self._kill_orphans()

    def _kill_orphans(self) -> None:
        """A supervisor was killed: what it owned are now unknown children of this process."""
        while orphans := [pid for pid in _children(os.getpid()) if not self._is_ours(pid)]:
            for pid in orphans:
                signal_all([*descendants(pid), pid], signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _is_ours(self, pid: int) -> bool:
        if pid in self.supervisors or pid in self.heir_pids:
            return True
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:  # noqa: PTH123
                return __file__.encode() in cmdline.read().split(b"\0")
        except OSError:
            return False


def _receive(stream: socket.socket) -> tuple[bytes, list[int]] | None:
    """One message with its descriptors, None when the other end is gone."""
    header, fds, _, _ = socket.recv_fds(stream, 4, 16)
    for fd in fds:
        os.set_inheritable(fd, False)
    size = struct.unpack("!I", header)[0] if len(header) == 4 else 0
    parts: list[bytes] = []
    while size:
        part = stream.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return (b"".join(parts), fds) if parts else None


def _send(stream: socket.socket, body: bytes, fds: Iterable[int]) -> None:
    socket.send_fds(stream, [struct.pack("!I", len(body))], list(fds))
    stream.sendall(body)


def send(server: socket.socket, request: Mapping[str, Any], fds: Iterable[int]) -> None:
    """Server side: send one request with the descriptors that belong to it; `do` must be its first key."""
    _send(server, json.dumps(request).encode(), fds)


def main() -> NoReturn:
    """Serve the socket whose descriptor is the first argument."""
    server = socket.socket(fileno=int(sys.argv[1]))
    server.setblocking(True)
    os.set_inheritable(server.fileno(), False)
    os.umask(0o077)
    os.chdir("/")
    gc.disable()
    gc.freeze()
    Keeper(server).run()
    os._exit(0)


if __name__ == "__main__":
    main()
