"""What a run has said so far: of its messages the newest, which is its answer if it ends now.

The same that the executor takes for the answer, so that what was read while the run went on is what is read after it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from clinvk.executor.spool import KEPT_CHARS

TAIL_BYTES = 1 << 20  # of events.jsonl; the newest message seldom begins before that


def newest_message(folder: Path) -> tuple[str, bool]:
    """The newest message, and whether that is all of it: of a long one it is the beginning."""
    try:
        with (folder / "output.txt").open(encoding="utf-8", errors="replace", newline="") as file:
            return file.read(KEPT_CHARS), False
    except OSError:  # it is not long
        pass
    try:
        with (folder / "events.jsonl").open("rb") as log:
            begin = max(0, log.seek(0, 2) - TAIL_BYTES)
            log.seek(begin)
            text, is_whole = _newest(log)
            if begin and not is_whole:
                log.seek(0)
                text, _ = _newest(log)
    except OSError:
        return "", True
    return text, True


def _newest(lines: Iterable[bytes]) -> tuple[str, bool]:
    """The last message of a piece of the log, and whether its beginning is known to be there."""
    parts: list[str] = []
    is_fresh = is_whole = False
    for line in lines:
        try:
            told: object = json.loads(line)
        except ValueError:  # cut off, at the beginning or just being written
            continue
        event = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        match event:
            case {"type": "text_end" | "tool_started" | "tool_finished"}:
                is_fresh = True
            case {"type": "text_delta", "text": str(text)} if text:
                if is_fresh:
                    parts.clear()
                    is_fresh, is_whole = False, True
                parts.append(text)
            case _:  # nothing that was said, or damaged
                pass
    return "".join(parts), is_whole
