"""Which run a request began: a note for each request, and a lock so that two who ask at once begin one run."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from clinvk.errors import ClinvkError
from clinvk.executor.runs import RunStore
from clinvk.files import locked, opened, private, private_folder

CLAIMS = 64  # locks that all requests share
CLAIM_SECS = 2.0  # holders need milliseconds; only a stopped process takes this long, and is not waited for
CLAIM_POLL_SECS = 0.005


class Requests:
    """For the fingerprint of a request, the record of its newest run; derived, may be deleted at any time."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "requests"
        self._runs = home / "runs"
        self._locks = home / "locks"

    @asynccontextmanager
    async def claimed(self, mark: str) -> AsyncGenerator[None]:
        """Nobody else looks for the run of a request, or begins one, meanwhile; not to be held while waiting."""
        import anyio  # an App is also made to read what is stored

        path = self._locks / f"request-{int(mark[:8], 16) % CLAIMS:02d}.lock"
        lock = opened(path, os.O_RDWR)
        try:
            if not locked(lock, path):
                with anyio.move_on_after(CLAIM_SECS):
                    while not locked(lock, path):  # noqa: ASYNC110 - another process holds it
                        await anyio.sleep(CLAIM_POLL_SECS)
            yield
        finally:
            os.close(lock)

    def note(self, mark: str, run_id: str) -> None:
        """Remember the run of a request, which is claimed: nobody looks for it meanwhile."""
        path = self._folder / mark
        with suppress(ClinvkError, OSError):  # without it the same request would be run twice, no more
            try:
                self._link(run_id, path)
            except FileNotFoundError:
                private_folder(self._folder)
                self._link(run_id, path)
            except FileExistsError:
                self.forget(mark)
                self._link(run_id, path)

    def _link(self, run_id: str, path: Path) -> None:
        """Raises FileNotFoundError or FileExistsError."""
        try:
            os.link(self._runs / run_id / "request.json", path)  # a new file costs more
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:  # a file system without links
            with open(path, "x", encoding="ascii", opener=private) as note:  # never into a record that is linked
                json.dump({"id": run_id}, note)

    def find(self, mark: str) -> str | None:
        """The run of a request, None when none is known."""
        try:
            return str(json.loads((self._folder / mark).read_bytes())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self, mark: str) -> None:
        """The request was answered."""
        with suppress(OSError):
            (self._folder / mark).unlink()

    def forget_removed(self, runs: RunStore) -> None:
        """Forget the requests whose runs are not kept any more."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                run_id = self.find(path.name)
                if run_id is None or not runs.is_recorded(run_id):
                    self.forget(path.name)
