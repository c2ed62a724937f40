import anyio
import anyio.lowlevel
import pytest

from clinvk.errors import Failure
from clinvk.events import (
    Event,
    PermissionDenied,
    Reasoning,
    Retrying,
    RunFinished,
    RunStarted,
    TextDelta,
    TextEnd,
    ToolFinished,
    ToolStarted,
    Warned,
)
from clinvk.mcp_server.progress import News, Pace, reported

pytestmark = pytest.mark.anyio


async def newest(*events: Event) -> str:
    news = News("codex", 1)
    for event in events:
        news.listen("r1", "codex", event)
    return news.line(12)


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ([], "codex · queued 12s"),
        ([RunStarted("r1", "codex")], "codex · running 12s · started"),
        ([TextDelta("Hello, "), TextDelta("wor\nld")], "codex · running 12s · Hello, wor ld"),
        ([TextDelta("old"), TextEnd(), TextDelta("new")], "codex · running 12s · new"),
        ([TextDelta("old"), TextEnd()], "codex · running 12s · old"),
        ([Reasoning("hm")], "codex · running 12s · thinking: hm"),
        ([ToolStarted("t", "Bash", "ls -l")], "codex · running 12s · using Bash: ls -l"),
        ([ToolStarted("t", "Bash"), ToolFinished("t", "Bash", ok=True)], "codex · running 12s · using Bash"),
        ([PermissionDenied("Write", "/etc/passwd")], "codex · running 12s · refused: Write /etc/passwd"),
        ([Retrying("429", 2, 10)], "codex · running 12s · retrying 2/10: 429"),
        ([Retrying("429")], "codex · running 12s · retrying: 429"),
        ([Warned("slow")], "codex · running 12s · slow"),
        ([RunFinished("r1", "failed", Failure(code="timeout", message="x"))], "codex · running 12s · failed"),
        ([TextDelta("a" * 300 + "end")], "codex · running 12s · …" + "a" * 117 + "end"),
    ],
)
async def test_a_line_tells_backend_time_and_the_newest(events: list[Event], line: str) -> None:
    assert await newest(*events) == line


async def test_a_call_of_several_runs_counts_those_that_are_done_and_keeps_their_texts_apart() -> None:
    news = News(None, 2)
    news.listen("parent", "", RunStarted("parent", ""))
    for run_id, backend in (("r1", "claude"), ("r2", "codex")):
        news.listen(run_id, backend, RunStarted(run_id, backend))
    news.listen("r1", "claude", TextDelta("one"))
    news.listen("r2", "codex", TextDelta("two"))
    assert news.line(3) == "codex · 0 of 2 done · running 3s · two"
    news.listen("r1", "claude", RunFinished("r1", "completed"))
    assert news.line(4) == "claude · 1 of 2 done · running 4s · completed"
    news.listen("r2", "codex", RunFinished("r2", "completed"))
    news.listen("parent", "", RunFinished("parent", "completed"))
    assert news.line(5) == "codex · 2 of 2 done · running 5s · completed"


async def test_silence_is_broken_by_the_heartbeat_and_news_waits_for_its_turn() -> None:
    told: list[tuple[float, str]] = []
    several = anyio.Event()

    async def report(seconds: float, message: str) -> None:
        told.append((seconds, message))
        if len(told) == 4:
            several.set()

    with anyio.fail_after(5):
        async with reported(report, News("codex", 1), Pace(every=0.01, heartbeat=0.02)) as listener:
            for number in range(100):
                listener("r1", "codex", TextDelta(f"{number} "))
            await several.wait()
    assert told[0][1].startswith("codex · running 0s · ")
    assert told[1][0] - told[0][0] >= 0.009  # `every`, less what rounding to milliseconds takes
    assert [seconds for seconds, _ in told] == sorted({seconds for seconds, _ in told})


async def test_nothing_is_reported_when_the_call_has_ended() -> None:
    told: list[float] = []

    async def report(seconds: float, message: str) -> None:
        told.append(seconds)

    with anyio.fail_after(5):
        async with reported(report, News("codex", 1), Pace(every=0, heartbeat=0)):
            await anyio.lowlevel.checkpoint()
        before = len(told)
        await anyio.lowlevel.checkpoint()
    assert len(told) == before


async def test_what_arrived_since_the_last_line_is_told_before_the_call_ends() -> None:
    told: list[tuple[float, str]] = []

    async def report(seconds: float, message: str) -> None:
        told.append((seconds, message))

    with anyio.fail_after(5):
        async with reported(report, News("codex", 1), Pace(every=60, heartbeat=60)) as listener:
            while not told:
                await anyio.lowlevel.checkpoint()
            listener("r1", "codex", TextDelta("Fine."))
            listener("r1", "codex", RunFinished("r1", "completed"))
    assert [message for _, message in told] == ["codex · queued 0s", "codex · running 0s · completed"]
    assert told[0][0] < told[1][0]
