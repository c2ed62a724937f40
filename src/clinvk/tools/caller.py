"""Who calls an operation, as far as operations care; every door makes one per call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from clinvk.executor.live import Listener
from clinvk.executor.questions import Question

ROOT = Path("/")
Ask = Callable[[Question], Awaitable[tuple[bool, str]]]  # allowed or not, and by whom or why


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`client` tells callers apart (an MCP client's name, `cli`, an API key's name).

    `cwd` is where a call without a workdir works. `listener` gets every event of the call's run and of its children.
    `ask` puts an agent's question to a person while the call waits. A door that can only ask between two calls says
    `asks_later`: its call then ends with `QuestionPending`, and is taken up again when its client repeats it
    with the answer.
    `attachments` are images that the door itself wrote down for the call; unlike `files` they need not be in a place
    that the caller may name.
    """

    client: str
    cwd: Path
    listener: Listener | None = None
    ask: Ask | None = None
    asks_later: bool = False
    attachments: tuple[Path, ...] = ()

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked at all."""
        return self.ask is not None or self.asks_later


class QuestionPending(Exception):  # noqa: N818 - no error: the call goes on when the question is answered
    """The run waits for a person, whom the door must ask before the call can go on."""

    def __init__(self, question: Question) -> None:
        super().__init__(f"run {question.run_id} asks: {question.tool} {question.action}")
        self.question = question


def working_directory(home: Path) -> Path:
    """Where calls without a workdir work: here, but never in `/`, where GUI applications start their servers."""
    try:
        here = Path.cwd()
    except OSError:  # deleted meanwhile
        here = ROOT
    if here != ROOT:
        return here
    scratch = home / "scratch"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    return scratch
