"""From the start of a process to its first useful word."""

import subprocess
import sys
from pathlib import Path

from benchmarks import place
from benchmarks.client import serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.scale import Scale

BARE_SERVER = Path(__file__).with_name("bare_server.py")


def starting(folder: Path, scale: Scale) -> list[Figure]:
    """The server to its list of tools, against the SDK's own; short commands against a bare interpreter."""
    where = place.create(folder)
    samples = interleaved(
        {
            "bare server": timed(lambda: _listed(where, [sys.executable, str(BARE_SERVER)])),
            "clinvk mcp": timed(lambda: _listed(where, place.server())),
            "python -c pass": timed(lambda: _run(where, [sys.executable, "-c", "pass"])),
            "clinvk version": timed(lambda: _run(where, [*place.clinvk(), "version"])),
            "clinvk sessions list": timed(lambda: _run(where, [*place.clinvk(), "sessions", "list"])),
        },
        scale.starts,
        warmup=1,
    )
    return [
        samples.figure("spawn to tools/list: of a bare SDK server", "clinvk mcp", times="bare server", aim=1.1),
        samples.figure("clinvk version: of python -c pass", "clinvk version", times="python -c pass", aim=4),
        samples.figure(
            "clinvk sessions list: of python -c pass", "clinvk sessions list", times="python -c pass", aim=12
        ),
    ]


def _listed(where: place.Place, argv: list[str]) -> None:
    with serving(argv, where.env, where.work) as server:
        assert server.request("tools/list", {})["tools"]


def _run(where: place.Place, argv: list[str]) -> None:
    subprocess.run(argv, env=where.env, cwd=where.work, stdout=subprocess.DEVNULL, check=True)
