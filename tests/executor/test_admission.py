"""Who may start: in the order of coming, within the limits, one login at a time."""

import anyio
import anyio.lowlevel
import pytest

from clinvk.errors import ClinvkError
from clinvk.executor.admission import Admission
from fakes.world import PATIENCE_SECS

pytestmark = pytest.mark.anyio


class Run:
    """A run that takes a place and holds it until it is let go."""

    def __init__(self, admission: Admission, backend: str) -> None:
        self.admission = admission
        self.backend = backend
        self.placed = anyio.Event()
        self.go = anyio.Event()

    async def __call__(self) -> None:
        async with self.admission.place(self.backend):
            self.placed.set()
            await self.go.wait()


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_places_are_given_in_the_order_of_coming() -> None:
    admission = Admission(total=1, per_backend=1, queue=10)
    runs = [Run(admission, "claude") for _ in range(4)]
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(run)
            await settled()
            for number, run in enumerate(runs):
                assert [one.placed.is_set() for one in runs] == [True] * (number + 1) + [False] * (3 - number)
                assert (admission.running, admission.waiting) == (1, 3 - number)
                run.go.set()
                await settled()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_backend_at_its_limit_does_not_hold_up_another() -> None:
    admission = Admission(total=10, per_backend=2, queue=10)
    crowd = [Run(admission, "claude") for _ in range(3)]
    other = Run(admission, "codex")
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            for run in (*crowd, other):
                tasks.start_soon(run)
            await settled()
            assert [run.placed.is_set() for run in (*crowd, other)] == [True, True, False, True]
            for run in (*crowd, other):
                run.go.set()


async def test_the_limit_over_all_holds_across_backends() -> None:
    admission = Admission(total=2, per_backend=2, queue=10)
    runs = [Run(admission, name) for name in ("claude", "codex", "gemini")]
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(run)
            await settled()
            assert [run.placed.is_set() for run in runs] == [True, True, False]
            runs[0].go.set()
            await settled()
            assert runs[2].placed.is_set()
            for run in runs:
                run.go.set()


async def test_a_full_queue_refuses_at_once_and_a_free_place_is_given_all_the_same() -> None:
    admission = Admission(total=5, per_backend=1, queue=1)
    first, second = Run(admission, "claude"), Run(admission, "claude")
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            tasks.start_soon(second)
            await settled()
            with pytest.raises(ClinvkError, match="waiting already") as refused:
                await admission.place("claude").__aenter__()
            assert (refused.value.failure.code, refused.value.failure.retryable) == ("overloaded", True)
            async with admission.place("codex"):
                pass
            first.go.set()
            second.go.set()


async def test_a_run_that_is_cancelled_in_the_queue_leaves_no_trace_there() -> None:
    admission = Admission(total=1, per_backend=1, queue=5)
    first, second = Run(admission, "claude"), Run(admission, "claude")
    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await settled()
            async with anyio.create_task_group() as inner:
                inner.start_soon(second)
                await settled()
                inner.cancel_scope.cancel()
            assert admission.waiting == 0
            third = Run(admission, "claude")
            tasks.start_soon(third)
            first.go.set()
            await third.placed.wait()
            third.go.set()
    assert not second.placed.is_set()


async def test_starts_with_a_refreshable_login_follow_each_others_first_output() -> None:
    admission = Admission(total=5, per_backend=5, queue=5)
    order: list[str] = []

    async def second() -> None:
        async with admission.start("claude", refreshable=True):
            order.append("second")

    with anyio.fail_after(PATIENCE_SECS):
        async with anyio.create_task_group() as tasks, admission.start("claude", refreshable=True) as start:
            tasks.start_soon(second)
            await settled()
            order.append("first begun")
            start.begun.set()
            await settled()
            order.append("first settled")
            start.settled.set()
            await settled()
    assert order == ["first begun", "first settled", "second"]


async def test_a_start_that_fails_lets_the_next_one_go() -> None:
    admission = Admission(total=5, per_backend=5, queue=5)
    with anyio.fail_after(PATIENCE_SECS):
        with pytest.raises(OSError, match="failed"):
            async with admission.start("claude", refreshable=True):
                raise OSError("failed")
        async with admission.start("claude", refreshable=True):
            pass


async def test_starts_without_a_refreshable_login_do_not_wait_for_each_other() -> None:
    admission = Admission(total=5, per_backend=5, queue=5)
    with anyio.fail_after(PATIENCE_SECS):
        async with admission.start("claude", refreshable=False), admission.start("claude", refreshable=False):
            pass
