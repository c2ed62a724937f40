"""One command from its start until nothing of it is alive; standard library only, because the keeper imports it."""

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import time
from typing import Any

from clinvk.executor.proctree import LINUX, descendants, signal_all, start_time

STATE_BYTES = 4096  # one page, padded: the ending is written in place, so a full disk cannot refuse it
PIPE_BYTES = 1 << 20
MESSAGE_CHARS = 900  # of an ending, so that it fits into the page whatever the script
STDERR_LIMIT = 16 << 20  # bytes kept of stderr; the rest is read and dropped
TAKES = 8  # of a full pipe, before the stragglers are looked at again
DRAIN_SECS = 1.0  # how long to wait for the end of file once no descendant is alive
UNKILLABLE_SECS = 10.0  # a process that survives SIGKILL this long is stuck in the kernel; say so and go on
F_SETPIPE_SZ = 1031  # fcntl(2)


class Wakeup:
    """Signals as a readable descriptor, so that `poll` sees them; `terminated` remembers SIGTERM."""

    def __init__(self) -> None:
        self.fd, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if LINUX else os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._in, False)
        self.terminated = False
        signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.signal(signal.SIGTERM, self._on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _on_child(self, *_: object) -> None:
        """The byte on the descriptor is all that is needed; without a handler there would be none."""

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
    """Copies a pipe into a file, without looking at it; the pipe is there first, the file once `into` names it."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.file = -1
        self.limit = 0
        self.size = 0
        self.open = True
        self.failed: OSError | None = None
        self.splices = hasattr(os, "splice")
        os.set_blocking(self.read_fd, False)
        if LINUX:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.read_fd, F_SETPIPE_SZ, PIPE_BYTES)

    def into(self, path: str, limit: int) -> None:
        """Make the file, which takes `limit` bytes."""
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.limit = limit

    def take(self) -> int:
        """Copy what is there; the number of bytes, 0 at the end of file or when nothing waits."""
        try:
            moved = self._move()
        except BlockingIOError:
            return 0
        except OSError as error:
            self.failed = error
            return self.take()  # from here on what comes is dropped
        if moved == 0:
            self.open = False
        self.size += moved
        return moved

    def _move(self) -> int:
        if self.failed or self.size >= self.limit:
            return len(os.read(self.read_fd, PIPE_BYTES))
        if self.splices:
            try:
                return os.splice(self.read_fd, self.file, PIPE_BYTES)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.splices = False  # not every file system can
        data = os.read(self.read_fd, PIPE_BYTES)
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]
        return len(data)


class Means:
    """What every supervisor needs, made in its process before there is a request."""

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.out = Spool()
        self.err = Spool()
        self.me = {"pid": os.getpid(), "start": start_time(os.getpid())}


class Supervisor:
    """Owns one command from its start until nothing of it is alive."""

    def __init__(self, request: dict[str, Any], fds: list[int], means: Means) -> None:
        control, *self.locks = fds  # the locks are held open until nothing of the run is alive
        self.folder: str = request["folder"]
        self.request = request
        self.control: socket.socket | None = socket.socket(fileno=control)
        self.detached: bool = request["detached"]
        self.grace: float = request["grace_secs"]
        self.reason = "exited"
        self.message = ""
        self.status: int | None = None
        self.pid = 0
        self.kill_at: float | None = None
        self.wakeup = means.wakeup
        self.me = means.me
        self.begun = self.active = time.monotonic()
        self.state = -1
        self.out, self.err = means.out, means.err

    def run(self) -> None:
        """Start the command, see it through, and leave the ending on disk and on the socket."""
        if self._open() and self._start():
            self._record(None)
            self._watch()
            self._end_stragglers()
            self._drain()
        ending = self._ending()
        self._record(ending)
        if self.detached:
            for fd in (self.out.file, self.err.file, self.state):
                with contextlib.suppress(OSError):
                    os.fsync(fd)
        for lock in self.locks:  # before anybody is told: who starts the next turn at once must find it free
            os.close(lock)
        self._tell(f"X {json.dumps(ending)}\n", patient=True)

    def _open(self) -> bool:
        try:
            self._open_files()
        except OSError as error:
            few = error.errno in (errno.EMFILE, errno.ENFILE)
            self.reason = "spawn_failed" if few else "disk_full"
            self.message = f"cannot write to {self.folder}: {error.strerror}"
            self.detached = False  # there is nothing to be kept
            return False
        return True

    def _open_files(self) -> None:
        self.state = os.open(f"{self.folder}/keeper.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.out.into(f"{self.folder}/stdout", self.request["max_output_bytes"])
        self.err.into(f"{self.folder}/stderr", STDERR_LIMIT)

    def _start(self) -> bool:
        try:
            self._spawn()
        except OSError as error:  # of the working directory, the stdin file or the program
            self.reason, self.message = "spawn_failed", f"{error.strerror}: {error.filename or self.request['argv'][0]}"
            return False
        except ValueError as error:  # what cannot be an argument or a variable: a NUL, or no Unicode text
            self.reason, self.message = "spawn_failed", f"{error}: {self.request['argv'][0]}"
            return False
        return True

    def _spawn(self) -> None:
        os.chdir(self.request["cwd"])
        # without waiting: of a named pipe whose writer was killed just now nobody would ever open the other end
        stdin = os.open(self.request["stdin"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(stdin, True)
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
        if b"A" in order:
            self.active = time.monotonic()
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
            for _ in range(TAKES):  # a straggler may write without end
                if not (spool.open and spool.take()):
                    break

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
            "message": self.message[:MESSAGE_CHARS],
            "duration_ms": round((time.monotonic() - self.begun) * 1000),
        }

    def _record(self, ending: dict[str, Any] | None) -> None:
        state = {
            "supervisor": self.me,
            "child": self.pid,
            "started_at": time.time() - (time.monotonic() - self.begun),
            "ending": ending,
        }
        try:
            data = json.dumps(state, ensure_ascii=False).encode("utf-8", "replace")
            os.pwrite(self.state, data.ljust(STATE_BYTES)[:STATE_BYTES], 0)
        except OSError as error:
            if ending is None:
                self._stop("disk_full", f"cannot write to {self.folder}: {error.strerror}")

    def _tell(self, line: str, *, patient: bool = False) -> None:
        if self.control is None:
            return
        self.control.setblocking(patient)
        self.control.settimeout(5.0 if patient else 0.0)
        with contextlib.suppress(OSError):  # full: the server has news waiting anyway; gone: seen by poll
            self.control.sendall(line.encode())
