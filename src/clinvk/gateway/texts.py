"""The answer as one text: what a stream shows of the events, and what is left to show at the end."""

import json

from clinvk.events import Event, TextDelta, TextEnd
from clinvk.response import PromptResult


class Texts:
    """Follows a run. An agent may say several things on its way; between them stands an empty line.

    With `whole` nothing is shown before the end: an answer that must fit a schema is judged first.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._between = False
        self.shown = False

    def of(self, event: Event) -> str:
        """What an event adds to the text."""
        match event:
            case TextDelta(text=text) if text and not self._whole:
                before = "\n\n" if self._between and self.shown else ""
                self.shown, self._between = True, False
                return before + text
            case TextEnd():
                self._between = True
                return ""
            case _:
                return ""

    def rest(self, result: PromptResult) -> str:
        """What is left to show once the run has ended."""
        return "" if self.shown else text_of(result)


def text_of(result: PromptResult) -> str:
    """The answer; what was asked for by a schema as JSON."""
    if result.structured_output is not None:
        return json.dumps(result.structured_output, ensure_ascii=False)
    return result.output
