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
supervisor: `D` detach, `C` cancel, `A` not stalled.
Supervisor to server, lines: `P` new output (coalesced), `X <json>` the ending.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

if __name__ == "__main__":  # started by its path, isolated: only this package is made importable
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from clinvk.executor.proctree import LINUX, become_subreaper, children, descendants, signal_all
from clinvk.executor.supervisor import Means, Supervisor, Wakeup

SPARES = 2  # supervisors forked in advance
REST_MS = 5  # without a request, before spares are forked: not while a run that was just begun needs the processor
RETRY_MS = 1000  # after the system refused another process
HEIR_TRIES = 60  # a second apart
ORPHAN_SECS = 1.0  # for orphans to die of SIGKILL; one that does not is not waited for, others want to be served
FD_FOLDER = "/proc/self/fd" if LINUX else "/dev/fd"
SPAWN = b'{"do": "spawn"'


class Keeper:
    """Forks a supervisor per request and outlives the server until the last of them has ended."""

    def __init__(self, server: socket.socket) -> None:
        self.server: socket.socket | None = server
        self.wakeup = Wakeup()
        self.supervisors: set[int] = set()
        self.spares: list[socket.socket] = []
        self.heirs: dict[str, tuple[dict[str, Any], list[int]]] = {}
        self.heir_pids: set[int] = set()
        self.heir_tries = 0
        self.rest_ms = REST_MS
        become_subreaper()

    def run(self) -> None:
        """Serve until the server is gone, its heirs are started and every supervisor has ended."""
        poll = select.poll()
        poll.register(self.wakeup.fd, select.POLLIN)
        assert self.server is not None
        poll.register(self.server, select.POLLIN)
        while self._is_served() or self.supervisors or self.heirs:
            news = poll.poll(self._patience_ms())
            for fd, _ in news:
                if fd == self.wakeup.fd:
                    self.wakeup.clear()
                elif not self._serve():
                    poll.unregister(fd)
                    self._let_go()
            ended = self._reap()
            if not self._is_served():
                self._start_heirs()
            elif ended or not news:
                self._rest()

    def _is_served(self) -> bool:
        return self.server is not None

    def _patience_ms(self) -> int | None:
        if self.server is None:
            return RETRY_MS
        return self.rest_ms if len(self.spares) < SPARES else None

    def _rest(self) -> None:
        """Nobody waits: fork the spares that are missing, later where the system allows no more processes now."""
        try:
            self._keep_spares(SPARES)
        except OSError:
            self.rest_ms = RETRY_MS
        else:
            self.rest_ms = REST_MS

    def _serve(self) -> bool:
        assert self.server is not None
        received = _receive(self.server)
        if received is None:
            return False
        body, fds = received
        if body.startswith(SPAWN):
            if fds:
                self._supervise(body, fds)
            for fd in fds:
                os.close(fd)
            return True
        request: dict[str, Any] = json.loads(body)
        for fd in self.heirs.pop(request["key"], ({}, list[int]()))[1]:
            os.close(fd)
        if request["do"] == "heir":
            self.heirs[request["key"]] = (request, fds)
        return True

    def _keep_spares(self, number: int) -> None:
        """Have supervisors forked before they are needed: a fork costs more than all else of a short run.

        Raises: OSError where the system allows no more processes or descriptors.
        """
        while len(self.spares) < number:
            ours, theirs = socket.socketpair()
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                theirs.close()
                raise
            if pid == 0:
                ours.close()
                self._become_supervisor(theirs)
            theirs.close()
            self.supervisors.add(pid)
            self.spares.append(ours)

    def _supervise(self, body: bytes, fds: list[int]) -> None:
        """Give a request to a spare; one that was killed meanwhile is passed over."""
        while True:
            try:
                self._keep_spares(1)
                with self.spares.pop(0) as spare, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _send(spare, body, fds)
                    return
            except OSError as error:
                _refuse(fds, f"no supervisor can be started: {error.strerror}")
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
            # The rest belongs to heirs and other runs, also to the one being given away now: held here, its control
            # socket would never close and its locks would outlive it.
            _close_all_but(keeper.fileno())
            means = Means()
            become_subreaper()
            received = _receive(keeper)
            keeper.close()
            if received is not None:
                body, fds = received
                Supervisor(json.loads(body), fds, means).run()
            code = 0
        finally:
            kind, error, trace = sys.exc_info()
            if kind is not None and error is not None:  # nobody else would tell of the bug
                sys.excepthook(kind, error, trace)
            os._exit(code)

    def _let_go(self) -> None:
        """The server is gone: nothing new will come."""
        self.server = None
        for spare in self.spares:
            spare.close()
        self.spares.clear()

    def _start_heirs(self) -> None:
        """Start one process that drives on whatever the server had handed out; tried again if that is refused."""
        if not self.heirs:
            return
        self.heir_tries += 1
        first = next(iter(self.heirs.values()))[0]
        argv: list[str] = list(first["argv"])
        for run_id, (_, fds) in self.heirs.items():
            for fd in fds:
                os.set_inheritable(fd, True)
                argv += ["--run", f"{run_id}:{fd}"]
        null = os.open(os.devnull, os.O_RDWR)
        try:
            log = os.open(first["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:  # a full disk: the run matters, not what its driver says
            log = os.dup(null)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        refused = False
        try:
            self.heir_pids.add(os.posix_spawn(argv[0], argv, first["env"], file_actions=actions, setsid=True))
        except OSError:
            refused = True
        os.close(log)
        os.close(null)
        if refused and self.heir_tries < HEIR_TRIES:
            return
        for fd in (fd for _, fds in self.heirs.values() for fd in fds):
            os.close(fd)
        self.heirs.clear()

    def _reap(self) -> bool:
        """Collect the dead; whether there were any."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            ended = True
            self.heir_pids.discard(pid)
            if pid in self.supervisors:
                self.supervisors.discard(pid)
                if status != 0:
                    self._kill_orphans()

    def _kill_orphans(self) -> None:
        """A supervisor was killed: what it owned are now unknown children of this process."""
        until = time.monotonic() + ORPHAN_SECS
        while orphans := [pid for pid in children(os.getpid()) if not self._is_ours(pid)]:
            for pid in orphans:
                signal_all([*descendants(pid), pid], signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > until:
                return
            time.sleep(0.001)

    def _is_ours(self, pid: int) -> bool:
        if pid in self.supervisors or pid in self.heir_pids:
            return True
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:  # noqa: PTH123
                return __file__.encode() in cmdline.read().split(b"\0")
        except OSError:
            return False


def _close_all_but(kept: int) -> None:
    """Close what is open but standard streams and `kept`; the highest possible number may be a billion."""
    for name in os.listdir(FD_FOLDER):  # noqa: PTH208 - pathlib costs start-up time here
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _refuse(fds: list[int], message: str) -> None:
    """Tell the server, on the control socket of a run, that it cannot be started."""
    ending = {"reason": "spawn_failed", "exit_code": None, "message": message, "duration_ms": 0}
    with contextlib.suppress(OSError, IndexError):
        os.write(fds[0], f"X {json.dumps(ending)}\n".encode())


def _receive(stream: socket.socket) -> tuple[bytes, list[int]] | None:
    """One message with its descriptors, None when the other end is gone."""
    header, fds, flags, _ = socket.recv_fds(stream, 4, 16)
    for fd in fds:
        os.set_inheritable(fd, False)
    if flags & socket.MSG_CTRUNC:  # too many are open here: all or none, and without them the server sees the end
        for fd in fds:
            os.close(fd)
        fds = []
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
    header = struct.pack("!I", len(body))
    sent = socket.send_fds(stream, [header, body], list(fds))  # at once: it wakes the other process
    if sent < len(header) + len(body):
        stream.sendall((header + body)[sent:])


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
