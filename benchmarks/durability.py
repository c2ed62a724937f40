"""What it costs that no run is lost: a handle that survives, a list of finished runs, and the records of a prompt.

The non-durable path is the same prompt through the same executor, keeper and store of sessions, but of its run nothing
is written beyond what the command reads and prints: no record, lock, events, result or mark, no note of its request.
"""

import itertools
import json
import os
import random
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from pydantic import BaseModel

from benchmarks import filling, place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, Idle, Samples, interleaved, timed
from benchmarks.scale import Scale
from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.events import Event
from clinvk.executor.admission import Admission
from clinvk.executor.executor import Executor
from clinvk.executor.live import LiveRun
from clinvk.executor.plan import Plan
from clinvk.executor.process import keeping
from clinvk.executor.reading import Reading
from clinvk.executor.runs import Mark, RunRecord, RunStore
from clinvk.executor.spool import EventLog
from clinvk.request import PromptRequest
from clinvk.response import PromptResult
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Caller
from clinvk.tools.claims import Requests
from clinvk.tools.prompt import prompt

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
    async with opened(loaded, where.env) as durable, forgetting(durable) as forgetful:
        ways = {
            "ephemeral": partial(_asked, durable, where, ephemeral=True),
            "ephemeral, not durable": partial(_asked, forgetful, where, ephemeral=True),
            "session": partial(_asked, durable, where, ephemeral=False),
            "session, not durable": partial(_asked, forgetful, where, ephemeral=False),
        }
        seconds = await _interleaved(ways, scale.calls)
    samples = Samples(seconds)
    return [
        samples.figure(f"durability of a prompt, {name}", way, over=f"{way}, not durable", aim=3)
        for name, way in (("ephemeral", "ephemeral"), ("session saved", "session"))
    ]


async def _interleaved(ways: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, list[float]]:
    order = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    idle = Idle()
    for number in range(-min(WARMUP, rounds), rounds):
        random.shuffle(order)
        for name in order:
            idle.wait()
            taken = await ways[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


async def _asked(app: App, where: place.Place, *, ephemeral: bool) -> float:
    request = PromptRequest(prompt=f"question {next(_numbers)}", ephemeral=ephemeral)
    begun = time.perf_counter()
    result = await prompt(app, request, Caller(client="benchmark", cwd=where.work))
    taken = time.perf_counter() - begun
    assert isinstance(result, PromptResult)
    assert result.status == "completed", result
    return taken


class NoRecords(RunStore):
    """Has a folder for what the keeper writes, and keeps nothing of a run."""

    def create(self, record: RunRecord) -> int:
        """The folder alone; instead of a lock, something that can be closed."""
        self.path(record.id).mkdir(mode=0o700, parents=True)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def finish(self, run_id: str, result: BaseModel, *, sync: bool) -> None:
        """Nothing."""

    def mark(self, run_id: str, mark: Mark) -> None:
        """Nothing."""


class NoRequests(Requests):
    """Does not see that a request is repeated."""

    @asynccontextmanager
    async def claimed(self, mark: str) -> AsyncGenerator[None]:
        """Nothing."""
        yield

    def note(self, mark: str, run_id: str) -> None:
        """Nothing."""

    def find(self, mark: str) -> str | None:
        """Nothing."""


class NoEvents(EventLog):
    """Keeps no events."""

    def write(self, events: Iterable[Event]) -> None:
        """Nothing."""


class ForgetfulExecutor(Executor):
    """Drives runs of which nothing is kept."""

    def _reading(self, plan: Plan, live: LiveRun | None) -> Reading:
        reading = super()._reading(plan, live)
        reading.log = NoEvents(reading.folder / "events.jsonl")
        return reading


@asynccontextmanager
async def forgetting(app: App) -> AsyncGenerator[App]:
    """The same clinvk, but that a run is lost with whoever waits for it."""
    runs = NoRecords(app.home)
    limits = app.config.limits
    admission = Admission(total=limits.max_concurrent, per_backend=limits.max_per_backend, queue=limits.queue_length)
    with keeping() as keeper:
        executor = ForgetfulExecutor(runs, keeper, admission)
        async with executor.serving():
            yield replace(app, runs=runs, made_executor=lambda: executor, requests=NoRequests(app.home))
