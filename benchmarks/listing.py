"""A page and a search of thousands of sessions in a warm server, against reading and searching the files."""

import json
import subprocess
from pathlib import Path

from benchmarks import filling, place
from benchmarks.client import Server, serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.scale import Scale


def listing(folder: Path, scale: Scale) -> list[Figure]:
    """Twenty sessions of one backend with one tag; sessions that hold a rare word; after one of them changed, too."""
    where = place.create(folder)
    filling.sessions(where.home, scale.sessions)
    with serving(place.server(), where.env, where.work) as server:
        server.call("sessions", action="list")
        server.call("sessions", action="search", query=filling.NEEDLE)
        samples = interleaved(
            {
                "every head read": timed(lambda: _read_all(where.home)),
                "grep": timed(lambda: _grepped(where.home)),
                "page": timed(lambda: _paged(server)),
                "page after a change": lambda: _paged_after_a_change(server),
                "search": timed(lambda: _searched(server)),
            },
            scale.listings,
        )
    of = f"of {scale.sessions} sessions"
    return [
        samples.figure(f"filtered page of 20 {of}", "page", aim=30),
        samples.figure("the same: of reading every head", "page", times="every head read", aim=0.5),
        samples.figure("the same, after a prompt was kept", "page after a change", aim=30),
        samples.figure(f"search {of}", "search", aim=100),
        samples.figure("the same: of grep", "search", times="grep", aim=2),
    ]


def _paged(server: Server) -> None:
    page = server.call("sessions", action="list", backend="codex", tag="bench", limit=20)
    assert page["sessions"], page


def _paged_after_a_change(server: Server) -> float:
    server.call("prompt", prompt="hello", fresh=True, tags=["bench"])
    return timed(lambda: _paged(server))()


def _searched(server: Server) -> None:
    page = server.call("sessions", action="search", query=filling.NEEDLE)
    assert page["sessions"], page


def _read_all(home: Path) -> None:
    heads = [json.loads(path.read_bytes()) for path in (home / "sessions").glob("*.json")]
    assert heads


def _grepped(home: Path) -> None:
    subprocess.run(["grep", "-rlF", filling.NEEDLE, str(home / "sessions")], stdout=subprocess.DEVNULL, check=True)
