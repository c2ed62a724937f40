"""Questions that a running agent has for a person: asked through whoever waits for the run, answered once."""

from dataclasses import dataclass, field

import anyio

ANSWER_SECS = 300.0  # a person who does not answer in this time has not approved


@dataclass(slots=True, eq=False)
class Question:
    """One action that waits for approval; `action` is exactly what would be done.

    `lapsed` says of a refusal that it was nobody's: the time was over, or the run.
    """

    run_id: str
    question_id: str
    backend: str
    tool: str
    action: str
    allowed: bool = False
    reason: str = "nobody answered"
    lapsed: bool = False
    answered: anyio.Event = field(default_factory=anyio.Event)

    def answer(self, *, allowed: bool, reason: str) -> None:
        """Decide; only the first answer counts."""
        if not self.answered.is_set():
            self.allowed, self.reason = allowed, reason
            self.answered.set()

    def lapse(self, reason: str) -> None:
        """Give the question up: refused, though nobody said so."""
        if not self.answered.is_set():
            self.lapsed = True
            self.answer(allowed=False, reason=reason)

    async def decision(self) -> None:
        """Wait for the answer; no answer in time is a refusal."""
        with anyio.move_on_after(ANSWER_SECS):
            await self.answered.wait()
        self.lapse(f"nobody answered within {ANSWER_SECS:g} s")
