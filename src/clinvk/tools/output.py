"""The whole answer of a run, by page and by search; offsets and limits are characters."""

import json
from collections.abc import Iterator
from typing import TextIO

from clinvk.errors import ClinvkError
from clinvk.request import RunsRequest
from clinvk.response import PromptResult, RunsResult
from clinvk.tools.app import App
from clinvk.tools.settle import settled

PAGE_CHARS = 20_000
MAX_MATCHES = 100
LINE_CHARS = 2_000  # of a matching line; of a longer one the part around the match
PIECE_CHARS = 1 << 20
SO_FAR = "the run goes on: this is what it has said so far"


def page(app: App, run_id: str, request: RunsRequest) -> RunsResult:
    """A page of the text, or the lines that hold `query` with their offsets."""
    if request.query:
        return _search(app, run_id, request)
    limit = request.limit or PAGE_CHARS
    parts: list[str] = []
    total = 0
    for piece in text_of(app, run_id):
        begin, end = request.offset - total, request.offset + limit - total
        if end > 0 and begin < len(piece):
            parts.append(piece[max(0, begin) : end])
        total += len(piece)
    text = "".join(parts)
    after = request.offset + len(text)
    running = settled(app, run_id).status == "running"
    if not running and request.offset <= total <= after:  # a page past the end shows nothing
        app.runs.mark_read(run_id)
    return RunsResult(
        text=text,
        offset=request.offset,
        next_offset=after if after < total else None,
        total_chars=total,
        warnings=[SO_FAR] if running else [],
    )


def _search(app: App, run_id: str, request: RunsRequest) -> RunsResult:
    wanted = (request.query or "").casefold()
    limit = min(request.limit or MAX_MATCHES, MAX_MATCHES)
    matches: list[dict[str, object]] = []
    offset = 0
    more: int | None = None
    for line in _lines(text_of(app, run_id)):
        if offset >= request.offset and more is None and wanted in line.casefold():
            if len(matches) == limit:
                more = offset
            else:
                begin = _shown_from(line, wanted)
                shown = line[begin : begin + LINE_CHARS].rstrip("\n")
                matches.append({"offset": offset + begin, "line": shown})
        offset += len(line)
    return RunsResult(
        matches=matches,
        offset=request.offset,
        next_offset=more,
        total_chars=offset,
        warnings=[SO_FAR] if settled(app, run_id).status == "running" else [],
    )


def _shown_from(line: str, wanted: str) -> int:
    """Where what is shown of a matching line begins: its beginning, unless the match would not be seen then."""
    found = line.casefold().find(wanted)
    return 0 if found + len(wanted) <= LINE_CHARS else max(0, min(found, len(line) - 1) - LINE_CHARS // 4)


def whole(app: App, result: PromptResult) -> str:
    """The whole answer of a finished prompt, also where its result holds only the beginning."""
    return "".join(text_of(app, result.run_id)) if result.output_truncated else result.output


def text_of(app: App, run_id: str) -> Iterator[str]:
    """The whole answer in pieces: of a finished run its text, of a running one what it has said so far."""
    folder = app.runs.path(run_id)
    state = settled(app, run_id)
    if state.record.kind != "prompt":
        raise ClinvkError(
            "invalid_request",
            f"run {run_id} is a {state.record.kind} run: its output is that of its children",
            hint="ask for the output of one of: " + ", ".join(app.runs.children(run_id)),
        )
    try:
        with (folder / "output.txt").open(encoding="utf-8", errors="replace", newline="") as file:
            yield from _pieces(file)
            return
    except FileNotFoundError:
        pass
    result = app.runs.result(run_id)
    if result is not None:
        yield str(result.get("output", ""))
        return
    try:
        with (folder / "events.jsonl").open(encoding="utf-8", errors="replace") as events:
            yield from _said(events)
    except FileNotFoundError:
        return


def _said(events: TextIO) -> Iterator[str]:
    for line in events:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("type") == "text_delta":
            yield event["text"]


def _pieces(file: TextIO) -> Iterator[str]:
    while piece := file.read(PIECE_CHARS):
        yield piece


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    """Lines with their newline, across pieces."""
    rest: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        rest.append(first)
        for other in others:
            yield "".join(rest) + "\n"
            rest = [other]
    if any(rest):
        yield "".join(rest)
