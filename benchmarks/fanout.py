"""`parallel` against a bare asyncio gather of the same commands.

For the many of them clinvk's limits (16 runs at once, 8 for one backend) are raised, so that none waits for another.
"""

import asyncio
import itertools
import time
from pathlib import Path

from benchmarks import place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.scale import Scale

TASK_SECS = 0.2
FEW = 8  # what runs at once by default

_numbers = itertools.count()


def fanout(folder: Path, scale: Scale) -> list[Figure]:
    """Few and many commands at once that each take a fifth of a second."""
    folder.mkdir()
    where = place.create(folder / "home", command=place.answering(folder, after_secs=TASK_SECS))
    with serving(place.server(), where.env, where.work) as server, asyncio.Runner() as runner:
        few = _measured(server, runner, where, FEW, scale)
        many = _measured(server, runner, where, scale.tasks, scale)
    return [few, many]


def _measured(server: Server, runner: asyncio.Runner, where: place.Place, count: int, scale: Scale) -> Figure:
    samples = interleaved(
        {
            "gather": lambda: runner.run(_gathered(where, count)),
            "parallel": timed(lambda: _parallel(server, count)),
        },
        scale.starts,
    )
    return samples.figure(
        f"parallel, {count} x {TASK_SECS:g} s: of a bare gather", "parallel", times="gather", aim=1.25
    )


def _parallel(server: Server, count: int) -> None:
    tasks = [{"prompt": f"question {next(_numbers)}", "ephemeral": True} for _ in range(count)]
    result = server.call("parallel", tasks=tasks, max_parallel=count)
    assert result["completed"] == count, result


async def _gathered(where: place.Place, count: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(_run(where) for _ in range(count)))
    return time.perf_counter() - begun


async def _run(where: place.Place) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *where.command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=where.work
    )
    stdout, _ = await process.communicate()
    assert b"hello" in stdout
