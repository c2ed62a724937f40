"""The whole answer of a run, by page and by search; offsets and limits are characters.

The answer is what the agent said last. While the run goes on that is the message it is writing: it only grows, also
across the end of the run, until another message begins, which is read from its own beginning.
"""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import BinaryIO

from clinvk.errors import ClinvkError
from clinvk.request import RunsRequest
from clinvk.response import PromptResult, RunsResult
from clinvk.tools.app import App
from clinvk.tools.saying import newest_message
from clinvk.tools.settle import settled

PAGE_CHARS = 20_000
MAX_MATCHES = 100
LINE_CHARS = 2_000  # of a matching line; of a longer one the part around the match
PIECE_BYTES = 1 << 20
SO_FAR = "the run goes on: this is its newest message so far; if it writes another, that takes its place"


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
    """The whole answer in pieces; of a running run the message that is its answer if it ends now."""
    folder = app.runs.path(run_id)
    state = settled(app, run_id)
    if state.record.kind != "prompt":
        raise ClinvkError(
            "invalid_request",
            f"run {run_id} is a {state.record.kind} run: its output is that of its children",
            hint="ask for the output of one of: " + ", ".join(app.runs.children(run_id)),
            details={"field": "run_id", "value": run_id, "accepted": app.runs.children(run_id)},
        )
    try:
        with (folder / "output.txt").open("rb") as file:
            yield from _pieces(file, ended=state.status != "running")
            return
    except FileNotFoundError:
        pass
    result = app.runs.result(run_id) or state.result or {}
    yield str(result["output"]) if "output" in result else newest_message(folder)[0]


def _pieces(file: BinaryIO, *, ended: bool) -> Iterator[str]:
    """The text of a file; the last character of one that is being written may be there in part."""
    decoder = getincrementaldecoder("utf-8")("replace")
    while piece := file.read(PIECE_BYTES):
        yield decoder.decode(piece)
    if ended:
        yield decoder.decode(b"", final=True)


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
