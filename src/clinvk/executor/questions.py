"""Questions that a running agent has for a person: asked through whoever waits for the run, answered once."""

from dataclasses import dataclass, field

import anyio

ANSWER_SECS = 300.0  # a person who does not answer in this time has not approved


@dataclass(slots=True, eq=False)
class Question:
    """One action that waits for approval; `action` is exactly what would be done."""

    run_id: str
    question_id: str
    backend: str
    tool: str
    action: str
    allowed: bool = False
    reason: str = "nobody answered"
    answered: anyio.Event = field(default_factory=anyio.Event)

    def answer(self, *, allowed: bool, reason: str) -> None:
        """Decide; only the first answer counts."""
        if not self.answered.is_set():
            self.allowed, self.reason = allowed, reason
            self.answered.set()

    async def decision(self) -> None:
        """Wait for the answer; no answer in time is a refusal."""
        with anyio.move_on_after(ANSWER_SECS):
            await self.answered.wait()
        self.answer(allowed=False, reason=f"nobody answered within {ANSWER_SECS:g} s")
