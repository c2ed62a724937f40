"""Processes and their descendants; standard library only, because the keeper imports it."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
STRAY_PASSES = 20  # over the process table: what is killed may have forked meanwhile
LINUX = sys.platform == "linux"

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
    import subprocess  # not above: with it each fork of the keeper takes twice as long (threading's hooks)

    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False).stdout
    children: dict[int, list[int]] = {}
    for row in table.splitlines():
        pid, parent = map(int, row.split())
        children.setdefault(parent, []).append(pid)
    return children


def children(pid: int) -> list[int]:
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
        below = children(pid) if table is None else table.get(pid, [])
        found += below
        queue += below
    return found


def kill_strays(run_id: str) -> None:
    """Kill what is left of a run whose supervisor and keeper were both killed: it still carries the run's id."""
    mark = f"CLINVK_RUN_ID={run_id}".encode()
    for _ in range(STRAY_PASSES):
        strays = [pid for pid in _all_pids() if mark in _environ(pid)]
        if not strays:
            return
        signal_all(strays, signal.SIGKILL)


def _all_pids() -> list[int]:
    """Every process but this one."""
    names = os.listdir("/proc") if LINUX else []  # noqa: PTH208
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _environ(pid: int) -> list[bytes]:
    """The variables with which a process was started; none of one that is dead or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:  # noqa: PTH123
            return environ.read().split(b"\0")
    except OSError:
        return []


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
