import pytest

from clinvk.mcp_server.fitting import LEAST_CHARS, fitted, fitted_run
from clinvk.response import ParallelResult, PromptResult, RunsResult, TaskResult


def several(*lengths: int) -> ParallelResult:
    results = [
        TaskResult(
            run_id=f"r{number}",
            status="completed",
            backend="claude",
            output="x" * length,
            output_chars=length,
            task=number,
        )
        for number, length in enumerate(lengths, 1)
    ]
    return ParallelResult(
        run_id="r",
        status="completed",
        total_tasks=len(results),
        completed=len(results),
        failed=0,
        cancelled=0,
        total_duration_ms=1,
        results=results,
    )


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [
        ((), []),
        ((10, 20), [10, 20]),
        ((9_000, 9_000), [5_000, 5_000]),
        ((1_000, 50_000), [1_000, 9_000]),
        ((1_000, 50_000, 50_000), [1_000, 4_500, 4_500]),
        ((50_000,) * 100, [LEAST_CHARS] * 100),
    ],
)
def test_parts_share_the_room_and_short_ones_leave_theirs_to_the_long(
    lengths: tuple[int, ...], kept: list[int]
) -> None:
    result = fitted(several(*lengths), 10_000)
    assert [len(part.output) for part in result.results] == kept
    assert [part.output_truncated for part in result.results] == [a > b for a, b in zip(lengths, kept, strict=True)]
    assert [part.output_chars for part in result.results] == list(lengths)


def test_a_run_that_is_looked_at_is_fitted_too() -> None:
    result = fitted_run(RunsResult(result=several(9_000, 9_000)), 10_000)
    assert isinstance(result.result, ParallelResult)
    assert [len(part.output) for part in result.result.results] == [5_000, 5_000]


def test_a_single_answer_and_a_listing_are_left_alone() -> None:
    single = PromptResult(run_id="r", status="completed", backend="claude", output="x" * 90)
    assert fitted_run(RunsResult(result=single), 10) == RunsResult(result=single)
    assert fitted_run(RunsResult(runs=[], total=0), 10) == RunsResult(runs=[], total=0)
