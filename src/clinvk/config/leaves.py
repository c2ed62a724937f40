"""What a configuration file or environment says, before anybody judges it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clinvk.config.problems import Problem, Source

Tree = Mapping[str, "Tree | None"]  # None stands for a leaf


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that somebody set for a key."""

    key: tuple[str, ...]
    value: object
    source: Source

    @property
    def dotted(self) -> str:
        return ".".join(self.key)


@dataclass(slots=True)
class Document:
    """What a file says: `leaves` of known keys, `strangers` with other keys, and what is wrong with the text."""

    path: Path
    leaves: list[Leaf] = field(default_factory=list[Leaf])
    strangers: list[Leaf] = field(default_factory=list[Leaf])
    problems: list[Problem] = field(default_factory=list[Problem])

    def complain(self, message: str, line: int | None, key: tuple[str, ...] = ()) -> None:
        """Note what is wrong with the text."""
        source = Source(kind="file", path=self.path, line=line)
        self.problems.append(Problem(message=message, source=source, key=".".join(key) or None))

    def give_up(self, message: str, fix: str) -> None:
        """Note why there is no text."""
        self.problems.append(Problem(message=message, source=Source(kind="file", path=self.path), fix=fix))
