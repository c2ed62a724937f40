"""The golden transcripts that tests/record_transcripts.py recorded from the real CLIs."""

import json
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "transcripts"


@dataclass(frozen=True, slots=True)
class Transcript:
    """What one CLI printed in one case; `lines` are its standard output without newlines."""

    backend: str
    case: str
    version: str
    argv: tuple[str, ...]
    exit_code: int
    lines: tuple[bytes, ...]
    stderr: str


def transcript(backend: str, case: str) -> Transcript:
    """One recording."""
    folder = _FOLDER / backend / case
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return Transcript(
        backend=backend,
        case=case,
        version=meta["version"],
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_code"],
        lines=tuple((folder / "stdout.jsonl").read_bytes().splitlines()),
        stderr=(folder / "stderr.txt").read_text(encoding="utf-8"),
    )


def cases(backend: str) -> list[str]:
    """The names of all recordings of a backend."""
    return sorted(folder.name for folder in (_FOLDER / backend).iterdir())
