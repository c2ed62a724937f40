"""What it costs that no run is lost: a handle that survives, a list of finished runs, and the records of a prompt.

The non-durable path is the same spawn through the keeper with the output read back, without record, result, session.
"""

import itertools
import json
import random
import subprocess
import time
from pathlib import Path

import anyio

from benchmarks import filling, place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, Idle, Samples, interleaved, timed
from benchmarks.scale import Scale
from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.executor.process import Launch, Limits
from clinvk.request import PromptRequest
from clinvk.response import PromptResult
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Caller
from clinvk.tools.prompt import prompt

LIMITS = Limits(timeout_secs=60, stall_secs=60, max_output_bytes=1 << 30, grace_secs=0.6)
WARMUP = 10

_numbers = itertools.count()


def durability(folder: Path, scale: Scale) -> list[Figure]:
    """Handles, lists and records."""
    folder.mkdir()
    return [
        *_handles(folder / "handles", scale),
        *_lists(folder / "lists", scale),
        *_commands(folder / "commands", scale),
        *_records(folder / "records", scale),
    ]


def _handles(folder: Path, scale: Scale) -> list[Figure]:
    folder.mkdir()
    where = place.create(folder / "home", command=place.answering(folder, after_secs=0.02))
    with serving(place.server(), where.env, where.work) as server:
        samples = interleaved({"handle": lambda: _handed(server)}, scale.calls)
    return [samples.figure("handle of a run that goes on without us", "handle", aim=15)]


def _handed(server: Server) -> float:
    begun = time.perf_counter()
    running = server.call("prompt", prompt=f"question {next(_numbers)}", wait_secs=0, ephemeral=True)
    taken = time.perf_counter() - begun
    assert running["status"] == "running", running
    ended = server.call("runs", action="wait", run_id=running["run_id"])
    assert ended["result"]["status"] == "completed", ended
    return taken


def _lists(folder: Path, scale: Scale) -> list[Figure]:
    where = place.create(folder)
    with serving(place.server(), where.env, where.work) as server:
        run_id = server.call("prompt", prompt="hello")["run_id"]
        filling.finished_runs(where.home, run_id, scale.runs)
        samples = interleaved({"list": timed(lambda: _listed(server))}, scale.listings)
    return [samples.figure(f"list of runs, {scale.runs} finished", "list", aim=20)]


def _listed(server: Server) -> None:
    assert server.call("runs", action="list")["runs"]


def _commands(folder: Path, scale: Scale) -> list[Figure]:
    """A process of its own has read no run yet."""
    folder.mkdir()
    one, many = place.create(folder / "one"), place.create(folder / "many")
    _said(one, "-o", "json", "hello")
    run_id = json.loads(_said(many, "-o", "json", "hello"))["run_id"]
    filling.finished_runs(many.home, run_id, scale.sessions)
    samples = interleaved(
        {
            "one": timed(lambda: _said(one, "runs", "list")),
            "many": timed(lambda: _said(many, "runs", "list")),
        },
        scale.starts,
    )
    return [
        samples.figure(f"clinvk runs list, {scale.sessions} finished: more than of one", "many", over="one", aim=250)
    ]


def _said(where: place.Place, *words: str) -> bytes:
    argv = [*place.clinvk(), *words]
    return subprocess.run(argv, env=where.env, cwd=where.work, stdout=subprocess.PIPE, check=True).stdout


def _records(folder: Path, scale: Scale) -> list[Figure]:
    where = place.create(folder)
    return anyio.run(_recorded, where, scale)


async def _recorded(where: place.Place, scale: Scale) -> list[Figure]:
    loaded = load(where.env, known_backends=registry.BACKENDS)
    order = ["keeper alone", "ephemeral", "session"]
    seconds: dict[str, list[float]] = {name: [] for name in order}
    idle = Idle()
    async with opened(loaded, where.env) as app:
        for number in range(-WARMUP, scale.calls):
            random.shuffle(order)
            for name in order:
                idle.wait()
                alone = name == "keeper alone"
                taken = await (_alone(app, where) if alone else _kept(app, where, ephemeral=name == "ephemeral"))
                if number >= 0:
                    seconds[name].append(taken)
    samples = Samples(seconds)
    return [
        samples.figure("durability of a prompt, ephemeral", "ephemeral", over="keeper alone", aim=3),
        samples.figure("durability of a prompt, session saved", "session", over="keeper alone", aim=3),
    ]


async def _kept(app: App, where: place.Place, *, ephemeral: bool) -> float:
    request = PromptRequest(prompt=f"question {next(_numbers)}", ephemeral=ephemeral)
    begun = time.perf_counter()
    result = await prompt(app, request, Caller(client="benchmark", cwd=where.work))
    taken = time.perf_counter() - begun
    assert isinstance(result, PromptResult)
    assert result.status == "completed", result
    return taken


async def _alone(app: App, where: place.Place) -> float:
    """The same command through the same keeper; only what it writes is looked at."""
    folder = where.folder / f"alone-{next(_numbers)}"
    begun = time.perf_counter()
    folder.mkdir()
    stdin = folder / "stdin"
    stdin.write_bytes(b"question")
    launch = Launch(folder=folder, argv=where.command, env=where.env, cwd=where.work, stdin=stdin, limits=LIMITS)
    async with app.executor.keeper.running(launch) as process:
        while process.ending is None:
            await process.news()
    output = (folder / "stdout").read_bytes()
    taken = time.perf_counter() - begun
    assert b"hello" in output
    return taken
