"""Claude Code with a person to ask: `--permission-prompt-tool stdio`, measured with 2.1.329.

For each action that its rules do not settle, the CLI prints `control_request` / `can_use_tool` and waits for a
`control_response` on its stdin, which is therefore stream-json and stays open until the `result` event.
"""

import json
from collections.abc import Sequence

from clinvk.backends.base import Turn
from clinvk.backends.claude_reader import ClaudeReader
from clinvk.backends.lines import EMPTY, JsonObject, object_of, parse, shorten, text_of
from clinvk.events import ApprovalAsked, Event

PROMPT_TOOL = "--permission-prompt-tool=stdio"
QUESTION_CHARS = 20_000  # of an action: a person must see all of what they allow


def asks(turn: Turn) -> bool:
    """Whether this turn hands its questions out: where something may be done that the mode does not settle."""
    if turn.approval == "always":
        return turn.ask and turn.sandbox != "read-only"
    return turn.ask and turn.approval == "default" and turn.sandbox == "default"


class AskingClaudeReader(ClaudeReader):
    """A reader that passes permission questions on; inputs of open questions are kept for the reply."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn)
        self._inputs: dict[str, JsonObject] = {}
        self._finished = False

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line, questions included."""
        data = parse(line) or EMPTY
        match data.get("type"):
            case "control_request":
                return self._asked(text_of(data, "request_id"), object_of(data, "request"))
            case "control_cancel_request":
                self._inputs.pop(text_of(data, "request_id"), None)
                return ()
            case "result":
                self._finished = True
            case _:
                pass
        return super().feed(line)

    def _asked(self, question_id: str, request: JsonObject) -> Sequence[Event]:
        if request.get("subtype") != "can_use_tool" or not question_id:
            return ()
        action = object_of(request, "input")
        self._inputs[question_id] = action
        shown = text_of(action, "command") or json.dumps(action, ensure_ascii=False)
        return [ApprovalAsked(question_id, text_of(request, "tool_name") or "a tool", shorten(shown, QUESTION_CHARS))]

    def reply(self, question_id: str, *, allowed: bool, reason: str) -> bytes:
        """The `control_response` for one question; nothing when it is not open."""
        action = self._inputs.pop(question_id, None)
        if action is None:
            return b""
        decision: dict[str, object] = (
            {"behavior": "allow", "updatedInput": action} if allowed else {"behavior": "deny", "message": reason}
        )
        response = {"subtype": "success", "request_id": question_id, "response": decision}
        return json.dumps({"type": "control_response", "response": response}).encode() + b"\n"

    @property
    def finished(self) -> bool:
        """Whether the `result` event was seen."""
        return self._finished
