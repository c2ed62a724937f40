"""Tens of MiB of output: how fast they pass, and how much the server grows, against a bare read of the same pipe."""

import itertools
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, interleaved
from benchmarks.scale import Scale

LINE_CHARS = 1_000
PRODUCER = Path(__file__).with_name("producer.py")

_numbers = itertools.count()


def floods(folder: Path, scale: Scale) -> list[Figure]:
    """Output as tool results (codex) and as the text of one answer (gemini), made line by line as CLIs do it.

    Then output that is ready in a file, against the least that any reader of JSON lines must do: it shows what reading
    costs when nothing is waited for.
    """
    folder.mkdir()
    figures: list[Figure] = []
    for backend, what in (("codex", "tool results"), ("gemini", "answer text")):
        produce = [sys.executable, "-I", "-S", str(PRODUCER), backend, str(scale.mib), str(LINE_CHARS)]
        figures += _flood(folder, scale, backend, f"{scale.mib} MiB of {what}", produce)
    ready = folder / "codex.jsonl"
    with ready.open("wb") as file:
        subprocess.run(
            [sys.executable, str(PRODUCER), "codex", str(scale.mib), str(LINE_CHARS)], stdout=file, check=True
        )
    cat = ["/bin/sh", "-c", f"exec cat {shlex.quote(str(ready))}", "fake-codex"]
    speed, _ = _flood(folder, scale, "codex", f"{scale.mib} MiB ready in a file", cat, bare=_bare_parsed)
    return [*figures, speed]


def _flood(
    folder: Path,
    scale: Scale,
    backend: str,
    title: str,
    command: Sequence[str],
    *,
    bare: Callable[[place.Place], float] | None = None,
) -> list[Figure]:
    read = bare or _bare
    where = place.create(folder / f"home-{next(_numbers)}", backend=backend, command=command)
    growth: list[float] = []
    with serving(place.server(), where.env, where.work) as server:
        server.call("prompt", prompt="once before the memory is looked at")
        samples = interleaved(
            {"bare": lambda: read(where), "clinvk": lambda: _asked(server, growth)}, scale.floods, warmup=1
        )
    speed = Figure(
        name=f"{title}: of a bare read" + (" that parses" if bare else ""),
        value=1 / samples.ratio("clinvk", "bare"),
        unit="x",
        aim=0.5,
        more_is_better=True,
        beside={f"{name} MiB/s": round(scale.mib / samples.median_ms(name) * 1000, 1) for name in samples.seconds},
        rounds=samples.rounds,
    )
    memory = Figure(
        name=f"{title}: server grows by", value=max(growth), unit="MiB", aim=20, beside={}, rounds=len(growth)
    )
    return [speed, memory]


def _bare(where: place.Place) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(where.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while os.read(process.stdout.fileno(), 1 << 20):
            pass
    return time.perf_counter() - begun


def _bare_parsed(where: place.Place) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(where.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            json.loads(line)
    return time.perf_counter() - begun


def _asked(server: Server, growth: list[float]) -> float:
    before = server.memory("VmRSS")
    server.forget_peak()
    begun = time.perf_counter()
    result = server.call("prompt", prompt=f"question {next(_numbers)}")
    taken = time.perf_counter() - begun
    assert result["status"] == "completed", result
    growth.append(server.memory("VmHWM") - before)
    return taken
