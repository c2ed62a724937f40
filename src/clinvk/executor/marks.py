"""Waits for marks that other processes leave in the folders of runs."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio

from clinvk.executor.runs import Mark, RunStore

LOOK_SECS = 0.2  # how often it is looked


class MarkWatch:
    """Looks for all marks that anybody in this process waits for; nothing while nobody does."""

    def __init__(self, runs: RunStore) -> None:
        self._runs = runs
        self._awaited: dict[object, tuple[str, Mark, Callable[[], None]]] = {}
        self._wanted: anyio.Event | None = None  # while there is nothing to look for

    async def look(self) -> None:
        """Look around until cancelled."""
        while True:
            if not self._awaited:
                self._wanted = anyio.Event()
                await self._wanted.wait()
                self._wanted = None
            await anyio.sleep(LOOK_SECS)
            for key, (run_id, mark, act) in tuple(self._awaited.items()):
                if key in self._awaited and self._runs.marked(run_id, mark):
                    del self._awaited[key]
                    act()

    @contextmanager
    def once_marked(self, run_id: str, mark: Mark, act: Callable[[], None]) -> Generator[None]:
        """Do something in the time of the scope as soon as another process has set a mark on a run."""
        key = object()
        self._awaited[key] = (run_id, mark, act)
        if self._wanted is not None:
            self._wanted.set()
        try:
            yield
        finally:
            self._awaited.pop(key, None)
