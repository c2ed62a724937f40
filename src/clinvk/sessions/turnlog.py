"""Reading and appending `<id>.turns.jsonl`.

Lines that cannot be read (torn by a crash, damaged by hand) are dropped on read and never stop anything. A last line
that lacks only its newline counts.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import ValidationError

from clinvk.files import append_line, reading
from clinvk.sessions.model import TurnRecord, encode

BLOCK_BYTES = 64 * 1024
REPEAT_WINDOW_BYTES = 64 * 1024  # how far back an append looks for its own run

_NUMBER = re.compile(rb'\{"number":\s*(\d+)')


class Line(NamedTuple):
    """One line with the bytes of the file that it takes."""

    start: int
    end: int
    data: bytes

    def turn(self) -> TurnRecord | None:
        """The turn in it, None when it is damaged."""
        try:
            return TurnRecord.model_validate_json(self.data)
        except ValidationError:
            return None

    def number(self) -> int | None:
        """The number of its turn, without reading the rest where that is possible."""
        if found := _NUMBER.match(self.data):
            return int(found[1])
        turn = self.turn()
        return turn.number if turn else None


def size(path: Path) -> int:
    """The length of the file, 0 when there is none."""
    with reading(path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0


def lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """Lines from byte `start`, oldest first, not beyond byte `end`."""
    file = _opened(path)
    if file is None:
        return
    with closing(file), reading(path):
        file.seek(start)
        for data in file:
            if end is not None and start + len(data) > end:
                return
            yield Line(start, start + len(data), data)
            start += len(data)


def lines_backward(path: Path) -> Iterator[Line]:
    """Lines, newest first, reading only as far back as is asked for."""
    file = _opened(path)
    if file is None:
        return
    with closing(file), reading(path):
        position = end = file.seek(0, os.SEEK_END)
        parts: list[bytes] = []  # of the line that ends at `end`, last part first
        while position > 0:
            step = min(BLOCK_BYTES, position)
            position -= step
            file.seek(position)
            block = file.read(step)
            rest = len(block)
            while (newline := block.rfind(b"\n", 0, rest)) >= 0:
                start = position + newline + 1
                if start < end:
                    yield Line(start, end, b"".join([block[newline + 1 : rest], *reversed(parts)]))
                end, parts, rest = start, [b"\n"], newline
            parts.append(block[:rest])
        if end:
            yield Line(0, end, b"".join(reversed(parts)))


def append(path: Path, turn: TurnRecord) -> int:
    """Append `turn`, synced; returns the length of the file then."""
    return append_line(path, encode(turn))


def has_recent_run(path: Path, run_id: str) -> bool:
    """Whether one of the last turns is that of `run_id`; costs the same however long the file is."""
    file = _opened(path)
    if file is None:
        return False
    with closing(file), reading(path):
        file.seek(max(0, file.seek(0, os.SEEK_END) - REPEAT_WINDOW_BYTES))
        tail = file.read(REPEAT_WINDOW_BYTES)
    needle = TurnRecord(run_id=run_id, prompt="").model_dump_json(include={"run_id"})[1:-1].encode()
    if needle not in tail:
        return False
    turns = (Line(0, 0, line).turn() for line in tail.split(b"\n") if needle in line)
    return any(turn is not None and turn.run_id == run_id for turn in turns)


def page(path: Path, offset: int, limit: int, total: int) -> tuple[list[TurnRecord], int]:
    """Turns number `offset + 1` to `offset + limit`, and how many lines met on the way could not be read.

    Read from the nearer end of a file of `total` turns.
    """
    last = offset + limit
    if offset + limit // 2 < total // 2:
        found = list(_matching(lines(path), offset, last, stop_after=last))
    else:
        found = list(_matching(lines_backward(path), offset, last, stop_before=offset + 1))[::-1]
    turns = [turn for turn in found if turn is not None]
    return turns, len(found) - len(turns)


def newest(path: Path) -> Iterator[TurnRecord]:
    """All turns, newest first."""
    for line in lines_backward(path):
        if turn := line.turn():
            yield turn


def _matching(
    source: Iterator[Line],
    offset: int,
    last: int,
    *,
    stop_after: int | None = None,
    stop_before: int | None = None,
) -> Iterator[TurnRecord | None]:
    """The turns that are wanted, None for each line that cannot be read; a last line may still be being written."""
    for line in source:
        number = line.number()
        is_whole = line.data.endswith(b"\n") and line.data != b"\n"
        if number is None:
            if is_whole:
                yield None
            continue
        if stop_after is not None and number > stop_after:
            return
        if stop_before is not None and number < stop_before:
            return
        if offset < number <= last and ((turn := line.turn()) or is_whole):
            yield turn


def _opened(path: Path) -> BinaryIO | None:
    with reading(path):
        try:
            return path.open("rb")
        except FileNotFoundError:
            return None
