"""Homes as they are after months of use: thousands of sessions and finished runs, written in clinvk's own formats."""

import json
import os
import random
import shutil
from pathlib import Path

from clinvk.sessions.model import Session, TurnRecord, encode

WORDS = 4_000
BACKENDS = ("codex", "claude", "gemini")
NEEDLE = "zirconium"  # in one session of a hundred
_BEGIN = 1_700_000_000


def sessions(home: Path, count: int, *, turns: int = 2, turn_words: int = 120) -> None:
    """Write `count` sessions; every third one is codex's, every tenth one is tagged `bench`."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10))) for _ in range(WORDS)]
    folder = home / "sessions"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(count):
        head = Session(
            id=f"{draw.getrandbits(64):016x}",
            backend=BACKENDS[number % 3],
            backend_session_id=f"native-{number}",
            created_at=_moment(number),
            last_used=_moment(number),
            working_dir="/work",
            title=" ".join(draw.choices(words, k=6)),
            initial_prompt=" ".join(draw.choices(words, k=40)),
            status="active",
            turn_count=turns,
            tags=["bench"] if number % 10 == 0 else [],
        )
        lines: list[bytes] = []
        for turn in range(1, turns + 1):
            output = " ".join(draw.choices(words, k=turn_words))
            if turn == turns and number % 100 == 0:
                output += f" {NEEDLE}"
            prompt = " ".join(draw.choices(words, k=40))
            record = TurnRecord(number=turn, run_id=f"{number:08x}{turn:08x}", prompt=prompt, output=output)
            lines.append(encode(record) + b"\n")
        data = b"".join(lines)
        (folder / f"{head.id}.turns.jsonl").write_bytes(data)
        stored = head.model_copy(update={"turns_bytes": len(data), "last_run_id": f"{number:08x}{turns:08x}"})
        (folder / f"{head.id}.json").write_bytes(encode(stored, indent=2) + b"\n")
    os.sync()  # else the disk is still busy with all that while something is measured


def _moment(number: int) -> str:
    day, second = divmod(number, 86_400)
    return f"2026-01-{day + 1:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000Z"


def finished_runs(home: Path, run_id: str, count: int) -> None:
    """Copies of a finished run under ids of their own."""
    runs = home / "runs"
    for number in range(count):
        copy = f"{number:016x}"
        shutil.copytree(runs / run_id, runs / copy)
        for name, changes in (
            ("request.json", {"id": copy, "created_at": float(_BEGIN + number), "title": f"question {number}"}),
            ("result.json", {"run_id": copy}),
        ):
            path = runs / copy / name
            path.write_text(json.dumps(json.loads(path.read_bytes()) | changes), encoding="utf-8")
    os.sync()
