"""Whatever a command writes: nothing of it is lost, and none of it costs memory."""

from pathlib import Path

import anyio
import pytest

from clinvk.events import TextDelta
from clinvk.request import PromptRequest, RunsRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt, runs
from clinvk.tools.app import App
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def run(app: App, world: World, *steps: agent.Step, backend: str = "claude") -> PromptResult:
    with anyio.fail_after(PATIENCE_SECS * 3):
        request = PromptRequest(prompt=agent.prompt(*steps), backend=backend)
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


def peak_memory() -> int:
    """The most memory that this process has had since `forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def test_64_mib_of_output_cost_little_memory_and_are_all_there(world: World) -> None:
    async with world.app() as app:
        await run(app, world, {"flood": 1})
        forget_peak()
        before = peak_memory()
        result = await run(app, world, {"flood": 64})
        grown = peak_memory() - before
        total = 64 * MIB // 1000 * 1000
        offset = total - 5
        end = await runs.runs(app, RunsRequest(action="output", run_id=result.run_id, offset=offset), world.caller())
    assert (result.status, result.output_chars, result.output_truncated) == ("completed", total, True)
    assert (end.text, end.next_offset, end.total_chars) == ("xxxxx", None, total)
    assert grown < 20 * MIB


async def test_many_very_long_lines_are_not_kept_in_memory(world: World) -> None:
    async with world.app() as app:
        await run(app, world, {"chars": 4 * MIB})
        forget_peak()
        before = peak_memory()
        result = await run(app, world, *[{"chars": 4 * MIB}] * 30)
        grown = peak_memory() - before
    assert (result.status, result.output_chars) == ("completed", 4 * MIB)
    assert grown < 60 * MIB


async def test_a_line_of_200_kb_is_read(world: World) -> None:
    async with world.app(output__max_chars=1_000_000) as app:
        result = await run(app, world, {"chars": 200_000})
    assert (result.status, result.output_chars, len(result.output)) == ("completed", 200_000, 200_000)


async def test_a_line_of_40_mib_is_skipped_with_a_warning_and_the_rest_is_read(world: World) -> None:
    async with world.app() as app:
        result = await run(app, world, {"chars": 40 * MIB}, {"answer": "after it"})
        spool = app.runs.path(result.run_id) / "stdout"
        assert spool.stat().st_size > 40 * MIB
    assert (result.status, result.output) == ("completed", "after it")
    assert [warning for warning in result.warnings if "not read" in warning]


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_a_last_line_without_a_newline_is_read(world: World, backend: str) -> None:
    async with world.app() as app:
        result = await run(app, world, {"answer": "hi"}, {"torn": True}, backend=backend)
    assert (result.status, result.output) == ("completed", "hi")


async def test_garbage_and_bytes_that_are_no_utf_8_are_passed_over(world: World) -> None:
    garbage = '\xff\xfe\x00\n[1,2]\n{}\n{"type": 7}\nnull\n\r\n{"type":"result"\n\x1b[31mred\n'
    async with world.app() as app:
        result = await run(app, world, {"raw": garbage}, {"answer": "hi"}, {"raw": garbage})
    assert (result.status, result.output) == ("completed", "hi")


async def test_invalid_utf_8_inside_an_event_is_replaced(world: World) -> None:
    line = (
        '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"a\xffb"}}}\n'
    )
    async with world.app() as app:
        result = await run(app, world, {"raw": line})
        shown = await runs.runs(app, RunsRequest(action="status", run_id=result.run_id), world.caller())
    assert isinstance(shown.result, PromptResult)
    assert shown.result.output == result.output


async def test_more_output_than_allowed_stops_the_run_and_keeps_what_was_there(world: World) -> None:
    async with world.app(limits__max_output_bytes=MIB) as app:
        result = await run(app, world, {"answer": "first"}, {"flood": 8}, {"hang": True})
    assert (result.status, result.error and result.error.code, result.partial) == ("failed", "output_unreadable", True)
    assert result.error is not None
    assert "1048576 bytes" in result.error.message
    assert "limits.max_output_bytes" in (result.error.hint or "")


async def test_a_noisy_stderr_is_bounded_and_fails_nothing(world: World) -> None:
    async with world.app() as app:
        result = await run(app, world, *[{"stderr": "noise\n" * 20_000}] * 3, {"answer": "hi"})
    assert (result.status, result.output) == ("completed", "hi")


async def test_output_comes_to_listeners_before_the_run_has_ended(world: World) -> None:
    go = world.fifo("go")
    heard: list[str] = []
    first = anyio.Event()

    def listen(_run: str, _backend: str, event: object) -> None:
        if isinstance(event, TextDelta):
            heard.append(event.text)
            first.set()

    request = PromptRequest(prompt=agent.prompt({"say": "one"}, {"wait": str(go)}, {"say": " two"}), backend="gemini")
    async with world.app() as app, anyio.create_task_group() as tasks:
        tasks.start_soon(prompt.prompt, app, request, world.caller(listen))
        with anyio.fail_after(PATIENCE_SECS):
            await first.wait()
        assert heard == ["one"]
        await go.release()
    assert heard == ["one", " two"]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([{"answer": "hi"}, {"exit": 0}], "output_unreadable"),
        ([{"exit": 3}], "backend_error"),
        ([{"answer": "hi"}, {"kill": 9}], "backend_error"),
        ([{"fail": "it broke"}], "backend_error"),
        ([{"close": True}], "output_unreadable"),
        ([{"stderr": "Error: out of cheese\n"}, {"exit": 1}], "backend_error"),
    ],
)
async def test_an_end_without_proof_of_success_is_a_failure(world: World, steps: list[agent.Step], code: str) -> None:
    async with world.app() as app:
        result = await run(app, world, *steps)
    assert (result.status, result.error and result.error.code) == ("failed", code)
