"""`prompt` through a warm server against the same fake CLI run directly."""

import itertools
import subprocess
from contextlib import ExitStack
from pathlib import Path

from benchmarks import filling, place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.scale import Scale

_numbers = itertools.count()


def prompting(folder: Path, scale: Scale) -> list[Figure]:
    """What a prompt costs more than the bare command, and what thousands of stored sessions add to that."""
    empty = place.create(folder / "empty")
    full = place.create(folder / "full")
    filling.sessions(full.home, scale.sessions)
    with ExitStack() as stack:
        fresh = stack.enter_context(serving(place.server(), empty.env, empty.work))
        laden = stack.enter_context(serving(place.server(), full.env, full.work))
        session = asked(fresh, ephemeral=False)
        samples = interleaved(
            {
                "direct": timed(lambda: run_directly(empty)),
                "ephemeral": timed(lambda: asked(fresh, ephemeral=True)),
                "session": timed(lambda: asked(fresh, ephemeral=False)),
                "continued": timed(lambda: asked(fresh, session_id=session)),
                "laden": timed(lambda: asked(laden, ephemeral=False)),
            },
            scale.calls,
            warmup=10,
        )
    return [
        samples.figure("prompt, ephemeral: more than direct", "ephemeral", over="direct", aim=4),
        samples.figure("prompt, new session saved: more than direct", "session", over="direct", aim=6),
        samples.figure("prompt, session continued: more than direct", "continued", over="direct", aim=6),
        samples.figure(f"prompt with {scale.sessions} sessions stored", "laden", times="session", aim=1.2),
    ]


def asked(server: Server, **options: object) -> str:
    """Ask something new; the session that the turn is kept in."""
    result = server.call("prompt", prompt=f"question {next(_numbers)}", **options)
    assert result["output"] == "hello", result
    return result["session_id"] or ""


def run_directly(where: place.Place) -> None:
    """The fake CLI without clinvk."""
    done = subprocess.run(where.command, stdin=subprocess.DEVNULL, capture_output=True, cwd=where.work, check=True)
    assert b"hello" in done.stdout
