"""Which processes belong to one clinvk, wherever in the process tree they are."""

import os
from pathlib import Path

from clinvk.executor.proctree import descendants
from fakes.world import Processes


def marked(name: str, value: str | None = None) -> list[int]:
    """The living processes with this variable in the environment that they were started with."""
    mark = f"{name}=".encode() if value is None else f"{name}={value}\0".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = b"\0" + (entry / "environ").read_bytes()
            except OSError:
                continue  # it has just ended
            if b"\0" + mark in environ:
                found.append(int(entry.name))
    return found


def of_clinvk(home: Path) -> list[int]:
    """Every process of the clinvk that has its home there: servers, keepers, heirs, agents and what they started."""
    family: set[int] = set()
    for pid in marked("CLINVK_HOME", str(home)):
        family |= {pid, *descendants(pid)}
    return sorted(family)


def agents(home: Path) -> list[int]:
    """The processes that runs of the clinvk with that home have started."""
    family: set[int] = set()
    in_runs = set(marked("CLINVK_RUN_ID"))
    for pid in in_runs & set(of_clinvk(home)):
        family |= {pid, *descendants(pid)}
    return sorted(family)


def watching(pids: list[int]) -> Processes:
    """These processes, to wait for their end."""
    processes = Processes()
    for pid in pids:
        try:
            processes.watch(name_of(pid), pid)
        except ProcessLookupError:
            continue  # it has ended since
    return processes


def name_of(pid: int) -> str:
    """What a failure message calls a process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return os.fsdecode(b" ".join(words)[:120])


async def all_ended(home: Path) -> None:
    """Wait until nothing of a clinvk is alive."""
    while pids := of_clinvk(home):
        await watching(pids).ended()


async def agents_ended(home: Path) -> None:
    """Wait until nothing that runs have started is alive."""
    while pids := agents(home):
        await watching(pids).ended()
