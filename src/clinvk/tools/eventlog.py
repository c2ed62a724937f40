"""A run's events.jsonl, read as it grows, whichever process writes it."""

from collections.abc import Iterator

from clinvk.tools.app import App


class EventLog:
    """The log of one run from the line after `read` on."""

    def __init__(self, app: App, run_id: str, read: int = 0) -> None:
        self.run_id = run_id
        self.read = read  # lines
        self.last = b""  # line that was looked at
        self._path = app.runs.path(run_id) / "events.jsonl"
        self._line = 0
        self._offset = 0

    def lines(self) -> Iterator[bytes]:
        """Complete lines that were not read yet; who takes only some of them gets the others the next time."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # whoever inherits a run writes its events anew, the same ones
                    self._line = self._offset = 0
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    self._line += 1
                    self.last = line
                    if self._line > self.read:
                        self.read = self._line
                        yield line
        except FileNotFoundError:  # not written yet, or removed just now
            return

    @property
    def is_short(self) -> bool:
        """Whether there were fewer lines at the last look than are said to have been read."""
        return self._line < self.read

    def skip(self) -> bool:
        """Pass over what is there; whether there is anything."""
        for _ in self.lines():
            pass
        return self.read > 0
