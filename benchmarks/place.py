"""Where a benchmark works: a fresh home, fake CLIs named in its configuration, and the environment of its servers.

A fake CLI is `sh` and `cat` of a prepared transcript: as little as a CLI can cost, so that what is measured is clinvk.
"""

import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

THREAD = "00000000-0000-4000-8000-000000000000"
ANSWER = (
    {"type": "thread.started", "thread_id": THREAD},
    {"type": "turn.started"},
    {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": "hello"}},
    {
        "type": "turn.completed",
        "usage": {"input_tokens": 300, "cached_input_tokens": 60, "output_tokens": 14, "reasoning_output_tokens": 6},
    },
)
LIMITS = {"max_concurrent": 64, "max_per_backend": 64}  # the defaults (16, 8) would make 50 at once wait in turn


@dataclass(frozen=True, slots=True)
class Place:
    """One home and what stands beside it."""

    folder: Path
    command: Sequence[str]  # the fake CLI

    @property
    def home(self) -> Path:
        """CLINVK_HOME."""
        return self.folder / "clinvk"

    @property
    def work(self) -> Path:
        """The directory that servers and runs work in."""
        return self.folder / "work"

    @property
    def env(self) -> dict[str, str]:
        """The environment of servers: nothing of the developer's."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "CLINVK_HOME": str(self.home)}


def answering(folder: Path, *, after_secs: float = 0.0) -> list[str]:
    """A fake Codex that prints one short answer."""
    transcript = folder / "answer.jsonl"
    transcript.write_text("".join(json.dumps(line) + "\n" for line in ANSWER), encoding="utf-8")
    wait = f"sleep {after_secs:g}; " if after_secs else ""
    return ["/bin/sh", "-c", f"{wait}exec cat {shlex.quote(str(transcript))}", "fake-codex"]


def create(folder: Path, *, backend: str = "codex", command: Sequence[str] | None = None) -> Place:
    """A fresh home whose `backend` is `command`, by default one that answers at once."""
    folder.mkdir(parents=True)
    chosen = answering(folder) if command is None else command
    place = Place(folder, chosen)
    place.work.mkdir()
    place.home.mkdir(mode=0o700)
    config = {"default_backend": backend, "backends": {backend: {"command": list(chosen)}}, "limits": LIMITS}
    (place.home / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return place


def creation_us(folder: Path) -> float:
    """What it takes to make a file there. Where many were deleted lately, ext4 needs far longer for some minutes."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as below:
        for number in range(50):
            begun = time.perf_counter()
            os.close(os.open(f"{below}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e6


def clinvk() -> list[str]:
    """The `clinvk` of this interpreter."""
    script = Path(sys.executable).with_name("clinvk")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "clinvk"]


def server() -> list[str]:
    """Its MCP server."""
    return [*clinvk(), "mcp"]
