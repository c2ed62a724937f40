"""The command in a pseudo-terminal, and meeting points with the agents behind it. Nothing here waits by the clock."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clinvk_command import COMMAND
from fakes.world import World

Done = subprocess.CompletedProcess[str]
PATIENCE_SECS = 60.0
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: tuple[str, ...], env: Mapping[str, str], cwd: Path, columns: int) -> None:
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            env={"TERM": "xterm-256color", **env},
            cwd=cwd,
            preexec_fn=lambda: os.login_tty(slave),
        )
        os.close(slave)
        self.seen = ""

    def until(self, *wanted: str) -> str:
        """Read until all of `wanted` was on the screen."""
        deadline = time.monotonic() + PATIENCE_SECS
        while not all(each in self.seen for each in wanted):
            assert self._read(deadline), f"{wanted} never came; seen: {self.seen!r}"
        return self.seen

    def ended(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE_SECS
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_SECS)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    @property
    def plain(self) -> str:
        """What was seen, without colours and movements."""
        return _ESCAPE.sub("", self.seen).replace("\r\n", "\n")

    def close(self) -> None:
        """Hang up."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has it open any more
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def terminal(*words: str, env: Mapping[str, str], cwd: Path, columns: int = 100) -> Generator[Terminal]:
    """Run the command on a terminal."""
    opened = Terminal(words, env, cwd, columns)
    try:
        yield opened
    finally:
        opened.close()


def reached(fifo: Path) -> dict[str, Any]:
    """Wait for an agent's `reach` step; what it tells."""
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    data = b""
    try:
        while True:
            assert select.select([fd], [], [], PATIENCE_SECS)[0], f"no agent came to {fifo}"
            piece = os.read(fd, 65536)
            if not piece:
                break
            data += piece
    finally:
        os.close(fd)
    told: dict[str, Any] = json.loads(data)
    return told


def release(fifo: Path) -> None:
    """Let an agent's `wait` step go on."""
    subprocess.run(["sh", "-c", f": > '{fifo}'"], timeout=PATIENCE_SECS, check=True)


def gone(pidfd: int) -> bool:
    """Whether a process ends."""
    return bool(select.select([pidfd], [], [], PATIENCE_SECS)[0])


def run(
    world: World,
    *words: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run the command on pipes, to its end; `env` is added to the world's."""
    return subprocess.run(
        [*COMMAND, *words],
        env={**world.environ, **(env or {})},
        cwd=cwd or world.workdir,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_SECS,
        check=False,
    )
