"""A command that takes a moment and reads nothing: started by the keeper as any other, but it is no run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinvk.events import Ending
from clinvk.executor.process import Launch, Limits
from clinvk.tools.app import App

MAX_OUTPUT_BYTES = 1 << 20
GRACE_SECS = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote."""

    ending: Ending
    stdout: bytes
    stderr: bytes


async def said(
    app: App, argv: Sequence[str], env: Mapping[str, str], *, folder: Path, cwd: Path, timeout_secs: float
) -> Said:
    """What a command says; `folder` is an empty one for what the keeper writes."""
    (folder / "stdin").touch()
    limits = Limits(timeout_secs=timeout_secs, stall_secs=0, max_output_bytes=MAX_OUTPUT_BYTES, grace_secs=GRACE_SECS)
    launch = Launch(folder=folder, argv=argv, env=env, cwd=cwd, stdin=folder / "stdin", limits=limits)
    async with app.executor.keeper.running(launch) as process:
        while process.ending is None:
            await process.news()
    return Said(process.ending, (folder / "stdout").read_bytes(), (folder / "stderr").read_bytes())
