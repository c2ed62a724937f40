"""`parallel` against a bare asyncio gather of the same commands. Clinvk's limits are raised so that none waits."""

import asyncio
import itertools
import time
from pathlib import Path

from benchmarks import place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.scale import Scale

TASK_SECS = 0.2

_numbers = itertools.count()


def fanout(folder: Path, scale: Scale) -> list[Figure]:
    """Many commands at once that each take a fifth of a second."""
    folder.mkdir()
    where = place.create(folder / "home", command=place.answering(folder, after_secs=TASK_SECS))
    with serving(place.server(), where.env, where.work) as server, asyncio.Runner() as runner:
        samples = interleaved(
            {
                "gather": lambda: runner.run(_gathered(where, scale.tasks)),
                "parallel": timed(lambda: _parallel(server, scale.tasks)),
            },
            scale.starts,
        )
    title = f"parallel, {scale.tasks} x {TASK_SECS:g} s: of a bare gather"
    return [samples.figure(title, "parallel", times="gather", aim=1.25)]


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
