"""From the bytes a command writes to the answer: lines without a length limit, text without unbounded memory."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from pydantic_core import to_json as to_bytes

from clinvk.events import Event, TextDelta, TextEnd, ToolFinished, ToolStarted, to_json
from clinvk.files import private

CHUNK_BYTES = 256 * 1024
MAX_LINE_BYTES = 32 << 20  # a longer line is no event of any CLI; it is skipped, its bytes stay in the spool
KEPT_CHARS = 256 * 1024  # characters of the answer kept in memory and in result.json
EVENT_CHARS = 64 * 1024  # of one text in events.jsonl; the spool has all of it


class Lines:
    """Splits a byte stream at newlines; linear in its length, whatever the length of a line."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.skipped = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes, without their newline."""
        first, *rest = chunk.split(b"\n")
        self._hold(first)
        if rest:
            yield from self.rest()
            yield from rest[:-1]
            self._hold(rest[-1])

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= MAX_LINE_BYTES:
            self._parts.append(part)
        else:
            self._parts.clear()

    def rest(self) -> Iterator[bytes]:
        """What is held back: a last line without a newline."""
        if self._size > MAX_LINE_BYTES:
            self.skipped += 1
        elif self._size:
            yield b"".join(self._parts)
        self._parts.clear()
        self._size = 0


class Answer:
    """Collects the last assistant message: its beginning in memory, and all of it in a file once it is long.

    `unsaved` says why there is no such file, where the disk refused it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._parts: list[str] = []
        self._fresh = True
        self.chars = 0
        self.used_tools = False
        self.unsaved = ""

    def take(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case TextDelta(text=text):
                self._add(text)
            case TextEnd() | ToolStarted() | ToolFinished():
                self._fresh = True
                self.used_tools = self.used_tools or not isinstance(event, TextEnd)
            case _:
                pass

    def _add(self, text: str) -> None:
        if self._fresh and text:
            self.replace("")
        before, self.chars = self.chars, self.chars + len(text)
        if before < KEPT_CHARS:
            self._parts.append(text[: KEPT_CHARS - before])
        if self.chars > KEPT_CHARS and not self.unsaved:
            try:
                self._save(text, max(0, KEPT_CHARS - before))
            except OSError as error:
                self._give_up(error)

    def _save(self, text: str, kept: int) -> None:
        if self._file is None:
            self._file = open(self._path, "wb", opener=private)  # noqa: SIM115 - held until close()
            self._file.write("".join(self._parts).encode("utf-8", "replace"))
            text = text[kept:]
        self._file.write(text.encode("utf-8", "replace"))

    def _give_up(self, error: OSError) -> None:
        """The disk takes no more; a part of the file would pass for the whole answer."""
        self.unsaved = error.strerror or str(error)
        self._drop()

    def _drop(self) -> None:
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def replace(self, text: str) -> None:
        """Start over with `text`: another message began, or the backend stated its final one."""
        self._drop()
        self._parts, self.chars, self._fresh, self.unsaved = [], 0, False, ""
        if text:
            self._add(text)

    @property
    def head(self) -> str:
        """The first `KEPT_CHARS` characters."""
        return "".join(self._parts)

    def close(self) -> None:
        """Finish the file, if there is one."""
        try:
            if self._file is not None:
                self._file.close()
            self._file = None
        except OSError as error:
            self._give_up(error)


class EventLog:
    """Appends the unified events to `events.jsonl`, a batch at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._full = False

    def write(self, events: Iterable[Event]) -> None:
        """Append events; a full disk loses them here, not in the spool from which they can be read again."""
        lines = [_encoded(_shortened(event)) for event in events]
        if not lines or self._full:
            return
        data = b"\n".join(lines) + b"\n"
        try:
            if self._file is None:
                self._file = open(self._path, "wb", buffering=0, opener=private)  # noqa: SIM115
            self._full = self._file.write(data) != len(data)
        except OSError:
            self._full = True

    def close(self) -> None:
        """Close the file, if any event was written."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _encoded(fields: dict[str, object]) -> bytes:
    try:
        return to_bytes(fields)
    except ValueError:  # a lone surrogate
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def _shortened(event: Event) -> dict[str, object]:
    fields = to_json(event)
    text = fields.get("text")
    if isinstance(text, str) and len(text) > EVENT_CHARS:
        fields["text"] = text[:EVENT_CHARS]
        fields["truncated"] = True
    return fields


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """What can be read now, in pieces."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
